"""What trace says besides operation, module, line and phase, and what it leaves alone."""

from __future__ import annotations

import copy
import linecache
import math

import pytest
import torch
from torch import nn

from steadygrad.errors import UsageError
from steadygrad.tracing import trace


def mean(output):
    return output.mean()


class Logarithm(nn.Module):
    def forward(self, x):
        return torch.log(x)


def state_of(model):
    return copy.deepcopy(
        [
            model.state_dict(),
            [param.grad for param in model.parameters()],
            [module.training for module in model.modules()],
            torch.get_rng_state(),
        ]
    )


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_broken_row_of_the_batch_is_named(bad):
    batch = torch.randn(5, 3)
    batch[3, 1] = bad
    origin = trace(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)), batch, mean)
    assert (origin.phase, origin.operation, origin.module) == ("input", "input", None)
    assert origin.rows == (3,)
    assert origin.inputs[0].nonfinite == 1
    assert origin.path == ("0", "1")
    assert "was in the batch" in str(origin)


def test_only_the_rows_that_carry_the_fault_are_named():
    origin = trace(
        nn.Sequential(Logarithm(), nn.Linear(1, 1)), torch.tensor([[1.0], [0.0], [2.0], [-1.0]]), mean
    )
    assert origin.rows == (1, 3)
    assert (origin.inputs[0].low, origin.inputs[0].high) == (-1.0, 2.0)


def test_rows_of_sequences_laid_end_to_end():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 1)

        def forward(self, x):
            return torch.log(self.head(x).flatten() * 0 + x[..., 0].flatten())

    batch = torch.ones(3, 4, 2)
    batch[2, 1] = 0.0
    assert trace(Flat(), batch, mean).rows == (2,)


def test_broken_targets_are_not_the_models_fault():
    targets = torch.tensor([1.0, math.nan])
    origin = trace(nn.Linear(3, 1), torch.randn(2, 3), lambda out: (out[:, 0] - targets).square().mean())
    assert (origin.phase, origin.operation) == ("input", "constant")
    assert "targets?" in origin.note


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_ruined_before_are_named(bad):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    with torch.no_grad():
        model[1].weight[0, 1] = bad
    origin = trace(model, torch.randn(2, 3), mean)
    assert (origin.phase, origin.operation, origin.module) == ("optimizer", "parameter", "1")
    assert "1.weight" in origin.note


def test_a_ruined_buffer_is_named():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)).eval()
    model[0].running_var[1] = math.nan
    origin = trace(model, torch.randn(4, 3), mean)
    assert (origin.operation, origin.module) == ("buffer", "0")
    assert "running_var" in origin.note


def test_a_healthy_step_has_no_origin():
    assert trace(nn.Linear(3, 1), torch.randn(4, 3), mean) is None


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_left_as_it_was(fails):
    class Strange(nn.Module):
        def forward(self, x):
            if fails:
                raise RuntimeError("no")
            return torch.log(x * 0)

    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU(inplace=True), Strange()
    )
    model[2].eval()
    model[0].weight.grad = torch.ones(4, 3)
    before = state_of(model)
    if fails:
        with pytest.raises(RuntimeError, match="no"):
            trace(model, torch.randn(8, 3).requires_grad_(False), mean)
    else:
        # the batch is drawn before
        batch = torch.ones(8, 3)
        assert trace(model, batch, mean) is not None
        assert equal(before, state_of(model))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("batch", "loss_fn"),
    [
        ((torch.zeros(4, 2), torch.zeros(4, 2)), lambda out, batch: (out - batch[0][:, :1]).mean()),
        ({"x": torch.zeros(4, 2), "y": torch.zeros(4, 2)}, mean),
        ([torch.zeros(4, 2), torch.zeros(4, 2)], mean),
    ],
)
def test_batches_of_every_form(batch, loss_fn):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 1)

        def forward(self, x, y):
            return self.head(torch.log(x) + y)

    origin = trace(Two(), batch, loss_fn)
    assert (origin.operation, origin.rows) == ("aten.log", (0, 1, 2, 3))


@pytest.mark.parametrize("loss_fn", [lambda out: out, lambda out: 3.0, lambda out: out.argmax()])
def test_a_loss_that_is_no_number_is_refused(loss_fn):
    with pytest.raises(UsageError, match="loss_fn returned"):
        trace(nn.Linear(3, 2), torch.randn(4, 3), loss_fn)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_fault_inside_a_fused_network_is_named(kind):
    model = kind(3, 4, batch_first=True)
    batch = torch.randn(2, 5, 3)
    batch[1, 2] = math.nan
    origin = trace(model, batch, lambda out: out[0].mean())
    assert (origin.phase, origin.rows) == ("input", (1,))


def test_a_row_of_attention_masked_completely():
    model = nn.MultiheadAttention(4, 1, batch_first=True)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[1] = True
    x = torch.randn(2, 3, 4)
    origin = trace(
        model,
        {"query": x, "key": x, "value": x, "key_padding_mask": mask},
        lambda out: out[0].mean(),
    )
    assert origin.module == ""
    assert "softmax" in origin.operation or "attention" in origin.operation


def test_the_loss_in_half_precision_overflows_where_it_is_cast():
    origin = trace(
        nn.Linear(2, 1), torch.full((4, 2), 1e6), lambda out: (out * 1e6).abs().add(1e6).half().mean()
    )
    assert (origin.phase, origin.operation, origin.kind) == ("loss", "aten.to_copy", "inf")


GENERATED = """
import torch
class Made(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def forward(self, x):
        return torch.log(self.layer(x) * 0 - 1)
"""


def made(file):
    names = {"__name__": "made"}
    exec(compile(GENERATED, file, "exec"), names)
    return names["Made"]()


def test_code_without_a_source_is_said_to_have_none():
    origin = trace(made("<string>"), torch.ones(4, 2), mean)
    assert (origin.module_type, origin.file, origin.lineno, origin.source) == ("Made", "<string>", 8, "")
    assert "<string>:8: the source of this code isn't available" in str(origin)


def test_a_file_that_is_gone_is_named_with_its_line():
    origin = trace(made("/gone/model.py"), torch.ones(4, 2), mean)
    assert "/gone/model.py:8: the source of this code isn't available" in str(origin)


def test_lines_of_a_console_are_known(monkeypatch):
    lines = GENERATED.splitlines(keepends=True)
    monkeypatch.setitem(linecache.cache, "<console-1>", (len(GENERATED), None, lines, "<console-1>"))
    origin = trace(made("<console-1>"), torch.ones(4, 2), mean)
    assert (origin.file, origin.lineno) == ("<console-1>", 8)
    assert origin.source == "return torch.log(self.layer(x) * 0 - 1)"


@pytest.mark.parametrize(("home", "away"), [("cpu", "meta"), ("meta", "cpu")])
def test_a_batch_on_another_device_is_told(home, away):
    model = nn.Linear(2, 1, device=home)
    with pytest.raises(
        UsageError, match=rf"the batch lies on {away} and the model on {home}: move one of them"
    ):
        trace(model, torch.ones(4, 2, device=away), mean)


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, torch.OutOfMemoryError])
def test_what_the_model_raises_comes_through_though_a_part_of_the_batch_lies_elsewhere(error):
    class Own(nn.Linear):
        def forward(self, x, lengths):
            raise error("the vocabulary is empty")

    with pytest.raises(error, match=r"^the vocabulary is empty$"):
        trace(Own(2, 1), (torch.ones(4, 2), torch.ones(4, device="meta")), mean)
