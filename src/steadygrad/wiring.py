"""Do the optimizers still hold the model's own parameters, or was a part replaced after they were made?"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.detect import stale_optimizer
from steadygrad.measure import parameter_names
from steadygrad.records import Finding
from steadygrad.stepping import Track

_EARLY = frozenset({1, 16})
_EVERY = 256

Elsewhere = Mapping[int, "weakref.ref[Tensor]"]
"""Parameters by their identity, which is taken over by another tensor once they are gone."""


def is_due(step: int) -> bool:
    """Whether it is asked at this step: a head is replaced early, mostly, and a walk over the model takes a third of a millisecond."""
    return step in _EARLY or (step % _EVERY == 0 and step > 0)


def trained_elsewhere(model: nn.Module, optimizers: Sequence[Optimizer]) -> Elsewhere:
    """What the model trains and nobody holds when it is attached: another optimizer may, which isn't watched.

    None of it where a tensor that is held is frozen already: a layer may have been wrapped into an adapter before.

    Args:
        model: as it is attached.
        optimizers: those that are watched.
    """
    held = _held(optimizers)
    if not all(param.requires_grad for param in held.values()):
        return {}
    apart = (param for param in model.parameters() if param.requires_grad and id(param) not in held)
    return {id(param): weakref.ref(param) for param in apart}


def stale(
    model: nn.Module | None, tracks: Sequence[Track], step: int, told: Iterable[Finding], elsewhere: Elsewhere
) -> Finding | None:
    """What shows that a part of the model was replaced, or wrapped, after its optimizer was made.

    Strangers alone are no fault (a loss may have parameters), nor are left-out parameters (a head may be trained on
    its own); together they are. So are tensors that the optimizer holds and nobody trains, with others that get a
    gradient and are held by nobody: a layer was frozen and wrapped into an adapter.

    Args:
        model: None once it has been collected.
        tracks: of the optimizers.
        step: at which it is asked.
        told: what has been found so far; it is said once.
        elsewhere: what was left out from the start; later it proves nothing.
    """
    optimizers = [one for track in tracks if (one := track.optimizer) is not None]
    if model is None or not optimizers or any(finding.kind == "stale_optimizer" for finding in told):
        return None
    if not _is_suspect(model, optimizers):
        return None
    strangers, missing = _unheld(model, optimizers)
    names = parameter_names(model)
    params = {names[id(param)]: param for param in model.parameters()}
    if step:
        missing = [name for name in missing if not _is_among(params[name], elsewhere)]
    if strangers or not missing:
        return stale_optimizer(step, strangers, missing) if strangers and missing else None
    held = _held(optimizers)
    frozen = [name for name, param in params.items() if id(param) in held and not param.requires_grad]
    fed = [name for name in missing if params[name].grad is not None]
    return stale_optimizer(step, frozen, fed, frozen=True) if frozen and fed else None


def _is_among(param: Tensor, some: Elsewhere) -> bool:
    known = some.get(id(param))
    return known is not None and known() is param


def _held(optimizers: Iterable[Optimizer]) -> dict[int, Tensor]:
    return {id(param): param for one in optimizers for group in one.param_groups for param in group["params"]}


def _is_suspect(model: nn.Module, optimizers: Iterable[Optimizer]) -> bool:
    """Whether names are worth looking up, which takes most of the time."""
    # `parameters()` makes up all their names, and takes twice as long.
    found = (param for module in model.modules() for param in module._parameters.values())  # noqa: SLF001
    own = {id(param): param.requires_grad for param in found if param is not None}
    held = {key: param.requires_grad for key, param in _held(optimizers).items()}
    is_missing = any(trains and key not in held for key, trains in own.items())
    return is_missing and (not all(held.values()) or not held.keys() <= own.keys())


def _unheld(model: nn.Module, optimizers: Iterable[Optimizer]) -> tuple[list[str], list[str]]:
    """Names of what optimizers hold but the model doesn't, and of what it trains but nobody holds."""
    names = parameter_names(model)
    trainable = {id(param) for param in model.parameters() if param.requires_grad}
    held, strangers = set(), []
    for group_index, position, param in (
        (group_index, position, param)
        for optimizer in optimizers
        for group_index, group in enumerate(optimizer.param_groups)
        for position, param in enumerate(group["params"])
    ):
        held.add(id(param))
        if id(param) not in names:
            strangers.append(f"group{group_index}.param{position}")
    return strangers, [name for key, name in names.items() if key in trainable and key not in held]
