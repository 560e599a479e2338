"""Remedies of the initial weights."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from steadygrad.checkup.rehearsal import Setup
from steadygrad.checkup.remedies.plan import Case, Plan
from steadygrad.checkup.weights import activation
from steadygrad.gains import TimeGain
from steadygrad.initialise import looks_linear_, lsuv_, orthogonal_, zero_residual_
from steadygrad.records import Remedy

WIDE = 3.0
"""Spread of an embedding's numbers that is far above torch's own of 1."""

SPREAD = 0.02
"""Of embeddings at their start, as in GPT-2 (Radford et al. 2019)."""

DEEP = frozenset(
    {
        "exploding_gradient",
        "vanishing_gradient",
        "nonfinite_activation",
        "nonfinite_loss",
        "nonfinite_gradient",
    }
)
"""Kinds of finding of a signal or a gradient that grows or fades with depth."""

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def start_plans(case: Case) -> Iterator[Plan]:
    """A start for the activation, one fitted to the batch, and recurrent weights of gain 1."""
    for one in case.seen.gains.time:
        yield from _recurrent(one, case)
    if _wide(case.seen.model):
        code = f"torch.nn.init.normal_(embedding.weight, std={SPREAD})"
        yield Plan(Remedy("Start the embeddings small", code), "start", _small_embeddings)
    # What adds to a state at each time step looks like a branch too, and is the recurrence itself.
    if case.kinds & DEEP and not case.seen.gains.time and (ends := _branch_ends(case)):
        code = "steadygrad.initialise.zero_residual_(model, batch)"
        yield Plan(Remedy("Start the residual branches at zero", code), "start", partial(_zeroed, names=ends))
        code = f"steadygrad.initialise.lsuv_(model, batch); {code}"
        title = "Scale each layer on a batch and start the residual branches at zero"
        yield Plan(Remedy(title, code), "start", partial(_fitted_and_zeroed, names=ends))
    name, asked = activation(case.seen)
    gain = asked or 1.0
    named = name or "linear"
    code = (
        'torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")'
        if gain > 1.2
        else "torch.nn.init.xavier_normal_(layer.weight)"
    )
    title = f"Initialise for {named}" if name else "Initialise the layers"
    yield Plan(Remedy(title, code), "start", partial(_normal, gain=gain))
    yield Plan(
        Remedy("Scale each layer on a batch", "steadygrad.initialise.lsuv_(model, batch)"), "start", _fitted
    )
    mirrored = "steadygrad.initialise.looks_linear_(model, batch)"
    yield Plan(Remedy("Mirror rectified layers so that they begin linear", mirrored), "start", _mirrored)
    yield Plan(
        Remedy("Make the weights orthogonal", f"steadygrad.initialise.orthogonal_(model, gain={gain:.3g})"),
        "start",
        lambda setup: orthogonal_(setup.model, gain),
    )


def _wide(model: nn.Module) -> list[Tensor]:
    """Weights of embeddings that start far wider than usual."""
    embeddings = [one for one in model.modules() if isinstance(one, (nn.Embedding, nn.EmbeddingBag))]
    return [one.weight for one in embeddings if float(one.weight.detach().float().std()) > WIDE]


def _small_embeddings(setup: Setup) -> None:
    for weight in _wide(setup.model):
        nn.init.normal_(weight, std=SPREAD)


def _branch_ends(case: Case) -> tuple[str, ...]:
    """Last layers of the residual branches: found once, since the search takes a pass for each layer."""
    with contextlib.suppress(Exception):
        twin = copy.deepcopy(case.seen.model)
        return tuple(zero_residual_(twin, case.seen.batch))
    return ()


def _zeroed(setup: Setup, names: tuple[str, ...]) -> None:
    for name in names:
        for param in setup.model.get_submodule(name).parameters(recurse=False):
            nn.init.zeros_(param)


def _fitted_and_zeroed(setup: Setup, names: tuple[str, ...]) -> None:
    _fitted(setup)
    _zeroed(setup, names)


def _mirrored(setup: Setup) -> None:
    looks_linear_(setup.model, setup.fed(setup.batch))


def _fitted(setup: Setup) -> None:
    lsuv_(setup.model, setup.fed(setup.batch))


def _normal(setup: Setup, gain: float) -> None:
    for module in setup.model.modules():
        if isinstance(module, _LAYERS):
            nn.init.normal_(module.weight, std=gain / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _recurrent(one: TimeGain, case: Case) -> Iterator[Plan]:
    module = case.seen.model.get_submodule(one.module)
    explodes = max(one.rise, 0.0) > 1 or (one.signal_per_step > 1 and not math.isfinite(case.seen.loss))
    factor = one.signal_per_step if not math.isfinite(case.seen.loss) else one.per_step
    place = one.module or "model"
    if isinstance(module, (nn.LSTM, nn.LSTMCell)) and not explodes:
        code = f"{place}.bias_ih_l0.data[hidden : 2 * hidden].fill_({_open(one):.2g})"
        change = partial(_open_gates, name=one.module, bias=_open(one))
        yield Plan(Remedy("Open the forget gate at the start", code), "start", change)
    if not 0 < factor < math.inf or abs(math.log(factor)) < 0.02:
        return
    weight = f"{place}.weight" if isinstance(module, nn.Linear) else f"{place}.weight_hh_l0"
    yield Plan(
        Remedy("Rescale the recurrent weights to a gain of 1", f"{weight}.data /= {factor:.3g}"),
        "start",
        partial(_rescaled, name=one.module, factor=factor),
    )
    yield Plan(
        Remedy("Make the recurrent weights orthogonal", f"torch.nn.init.orthogonal_({weight})"),
        "start",
        partial(_orthogonal, name=one.module),
    )


def _open(one: TimeGain) -> float:
    """A gate that forgets once over the whole sequence (Tallec and Ollivier 2018, arXiv:1804.11188, section 2)."""
    return math.log(max(3, len(one.grad_norms)) - 1)


def _weights(module: nn.Module) -> list[Tensor]:
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return [
            param for name, param in module.named_parameters(recurse=False) if name.startswith("weight_hh")
        ]
    return [param for param in module.parameters(recurse=False) if param.dim() > 1]


def _rescaled(setup: Setup, name: str, factor: float) -> None:
    for weight in _weights(setup.model.get_submodule(name)):
        weight.data.div_(factor)


def _orthogonal(setup: Setup, name: str) -> None:
    for weight in _weights(setup.model.get_submodule(name)):
        for block in weight.data.chunk(max(1, weight.shape[0] // weight.shape[1])):
            nn.init.orthogonal_(block)


def _open_gates(setup: Setup, name: str, bias: float) -> None:
    module = setup.model.get_submodule(name)
    for key, param in module.named_parameters(recurse=False):
        if key.startswith("bias_ih"):
            with torch.no_grad():
                param.chunk(4)[1].fill_(bias)
