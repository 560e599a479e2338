from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.adapters import Lora
from tests.policies.steps import Track
from tests.policies.streams import patient
from torch import nn

import steadygrad as sg
from steadygrad.policies import auto, steady
from steadygrad.policies.depth import layers_in_a_row
from steadygrad.policies.relative import RelativeStep
from steadygrad.policies.steady import rho_of
from steadygrad.records import TensorInfo


def layers(*names):
    return layers_in_a_row([TensorInfo(name, (4, 4)) for name in names], lambda _: True)


def pairs(blocks, first="lora_A.default.weight", second="lora_B.default.weight"):
    return [f"layers.{i}.q_proj.{part}" for i in range(blocks) for part in (first, second)]


@patient
@given(st.lists(st.from_regex(r"(layers|head|body|expert)\.\d{1,2}\.(weight|fc\.weight)", fullmatch=True)))
def test_names_that_tell_nothing_count_one_each(names):
    assert layers(*names) == len(names)


@pytest.mark.parametrize(
    "pattern",
    [
        "block.{}.experts.{}.w1.weight",
        "block.{}.mlp.experts.expert_{}.wi.weight",
        "block.{}.moe.local_experts.{}.weight",
        "block.{}.expert{}.weight",
        "block.{}.deepspeed_moe.experts.deepspeed_experts.{}.fc.weight",
    ],
)
def test_the_experts_of_a_layer_are_one_layer(pattern):
    names = [pattern.format(block, expert) for block in range(3) for expert in range(16)]
    assert layers(*names) == 3
    assert layers(*names, "router.weight", "block.0.shared_experts.w1.weight") == 5


@pytest.mark.parametrize(
    "parts",
    [
        ("lora_A.default.weight", "lora_B.default.weight"),  # peft
        ("lora_a.weight", "lora_b.weight"),  # torchtune
        ("lora_A", "lora_B"),  # loralib
        ("lora.down.weight", "lora.up.weight"),  # diffusers
        ("loraA.weight", "loraB.weight"),
        ("adapter.down_proj.weight", "adapter.up_proj.weight"),
        ("adapters.task.adapter_down.0.weight", "adapters.task.adapter_up.weight"),
    ],
)
@pytest.mark.parametrize("base", ["weight", "base_layer.weight"])
def test_an_adapter_is_one_with_its_layer(parts, base):
    adapters = pairs(12, *parts)
    assert layers(*adapters) == 12
    assert layers(*adapters, *[f"layers.{i}.q_proj.{base}" for i in range(12)], "head.weight") == 13


def test_adapters_of_experts_are_experts():
    names = [f"{block}.experts.{e}.w.lora_{part}" for block in range(3) for e in range(16) for part in "AB"]
    assert layers(*names) == 3


def test_a_network_that_is_called_adapter_is_as_deep_as_it_is():
    assert layers(*[f"adapter.{i}.weight" for i in range(9)]) == 9


def test_words_that_begin_alike_are_no_adapters():
    assert layers("lorac.weight", "exploration.weight", "adaptive.0.weight", "expertise.0.weight") == 4


def depth_of(tensors):
    relative = RelativeStep()
    relative.prepare(tensors, torch.ones(len(tensors)).numpy())
    return relative.depth


def test_steadys_budget_does_not_shrink_with_the_number_of_experts():
    def tensors(experts):
        return [
            TensorInfo(f"{b}.experts.{e}.{w}", (8, 8)) for b in range(4) for e in range(experts) for w in "io"
        ]

    assert depth_of(tensors(1)) == depth_of(tensors(64)) == 8
    assert depth_of([TensorInfo(name, (8, 8)) for name in pairs(8)]) == 8
    run = Track(steady(), tensors=tensors(2), param_norms=[2.0] * 16)
    assert run.take(1e6, 0.1).factor * 1e6 * 0.1 == pytest.approx(rho_of(8) * 2.0 * 4.0)


@pytest.mark.parametrize("experts", [1, 8])
def test_auto_sees_the_same_start_with_one_expert_or_many(experts):
    """Gains of the experts' own norms are folded as their matrices are."""
    names = [f"{b}.experts.{e}.{w}" for b in range(5) for e in range(experts) for w in ("fc", "norm")]
    tensors = [TensorInfo(f"{one}.weight", (8,) if "norm" in one else (8, 8)) for one in names]
    tensors += [TensorInfo(f"{i}.weight", (8, 8)) for i in range(5)]
    policy = auto()
    policy.prepare(tensors, torch.ones(len(tensors)).numpy())
    assert policy._depth == pytest.approx(math.sqrt(10 - 1 - 5))


def test_a_real_model_with_adapters_is_met_as_deep_as_it_has_layers():
    model = nn.Sequential(*[Lora(nn.Linear(16, 16)) for _ in range(10)])
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1, momentum=0.9)
    norms = {name: float(p.detach().norm()) for name, p in model.named_parameters() if p.requires_grad}
    weights = [max(norm, (4 / 3 if "_A" in name else 16 / 3) ** 0.5) for name, norm in norms.items()]
    with sg.guard(model, optimizer, policy=steady(), recover=False) as guard:
        model(torch.randn(8, 16)).square().mean().backward()
        optimizer.step()
        assert guard.last.cap == pytest.approx(rho_of(10) * math.hypot(*weights) * (1 - 0.9) / 0.1)
