"""From loose parameters to the module that a person would name them by."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.fx import GraphModule

from steadygrad.launch.arm.left_behind import left_by_a_loop
from steadygrad.launch.arm.objects import living, optimizers_of, variable_names

# They hold the user's model as their only child and add nothing to train.
_WRAPPERS = frozenset({"DistributedDataParallel", "DataParallel", "OptimizedModule"})

# Of the dimensions of a weight: what goes out and what comes in.
_WIDTHS = 2

# A training of many models has a title all the same.
_MOST_TITLES = 3


class Gathered(nn.Module):
    """Stands for several models, or for tensors without one, that are trained together."""

    def take_name(self) -> None:
        """Be called after what is in it, as a model is called by its class: ``qf1 and qf2``."""
        self.__class__ = type(_listed(list(self._modules or self._parameters)), (Gathered,), {})


_NUMBERS: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
_COUNT = itertools.count(1)


def module_of(params: Sequence[Tensor]) -> nn.Module:
    """The outermost module that holds these parameters.

    Where several would do, the one with the fewest others. Where none holds them all, a new module
    stands for those that do, each under the name of its variable; so it does for tensors that are in
    no module at all.

    Args:
        params: what is being trained.

    Returns:
        The user's own module, or a `Gathered`.
    """
    wanted = {id(param) for param in params}
    chosen = _owners(wanted)
    if len(chosen) == 1 and wanted <= _ids(chosen[0]):
        return chosen[0]
    inside = {key for one in chosen for key in _ids(one)}
    loose = [param for param in params if id(param) not in inside]
    if _left_behind(chosen, params, loose):
        return chosen[0]
    renewed = next((one for one in chosen if _has_successors(one, params, chosen)), None)
    return renewed or _gathered(chosen, loose)


def replicated(module: nn.Module) -> nn.Module:
    """The ``DistributedDataParallel`` around a module, which tells that other ranks train it too; else itself."""
    around = (one for one in living(nn.Module) if type(one).__name__ == "DistributedDataParallel")
    return next((one for one in around if any(inner is module for inner in one.modules())), module)


def number_of(module: nn.Module) -> int:
    """The same number for the same model, as long as it lives; counted from 1."""
    return _NUMBERS.setdefault(module, next(_COUNT))


def part_of(module: nn.Module, params: Sequence[Tensor]) -> str:
    """Which children of a module these parameters are of; empty where it has no others.

    Whether the others require a gradient isn't asked: a loop that trains two parts in turn switches it off for one.
    """
    ids = {id(param) for param in params}
    if all(id(param) in ids for param in module.parameters()):
        return ""
    held = (name for name, param in module.named_parameters() if id(param) in ids)
    return _listed(list(dict.fromkeys(name.partition(".")[0] for name in held)))


def _owners(wanted: set[int]) -> list[nn.Module]:
    """The roots that together hold what is wanted, by ``id``: one where one holds all, else those with the most first."""
    owners = [(len(found & wanted), len(found), root) for root in _roots() if (found := _ids(root)) & wanted]
    whole = [owner for owner in owners if owner[0] == len(wanted)]
    if whole:
        return [min(whole, key=lambda owner: (isinstance(owner[2], GraphModule), owner[1]))[2]]
    owners.sort(key=lambda owner: (isinstance(owner[2], GraphModule), -owner[0], owner[1]))
    chosen: list[nn.Module] = []
    missing = set(wanted)
    for _, _, root in owners:
        if _ids(root) & missing:
            chosen.append(root)
            missing -= _ids(root)
    return chosen


def _left_behind(chosen: Sequence[nn.Module], params: Sequence[Tensor], loose: Sequence[Tensor]) -> bool:
    """Whether the loose tensors are of a part of the model that the script has since replaced.

    Nothing names them any more, and the model has parameters that aren't among those in training.
    """
    if len(chosen) != 1 or not loose:
        return False
    held = {id(param) for param in params}
    if not any(param.requires_grad and id(param) not in held for param in chosen[0].parameters()):
        return False
    return _are_nameless(loose, params)


def _are_nameless(loose: Sequence[Tensor], params: Sequence[Tensor]) -> bool:
    """Whether no variable holds any of these parameters."""
    names = variable_names(params)
    left = {id(param) for param in loose}
    # A list of parameters that was made for the optimizer names nothing: the model's own are in it too.
    lists = {_list_of(name) for key, name in names.items() if key not in left} - {None}
    return all(key not in names or _list_of(names[key]) in lists for key in left)


def _has_successors(model: nn.Module, params: Sequence[Tensor], chosen: Sequence[nn.Module]) -> bool:
    """Whether all but the model's own parameters are out of use, and as many of the model's own stand in their places.

    A replaced layer may still have a name: that of the variable which a loop over the modules has left behind. But a
    backward pass gives it no gradient any more, and gives one to what came instead. What anything else holds may be a
    part that joins later, beside one that is left untrained on purpose.
    """
    own, held = _ids(model), {id(param) for param in params}
    left = [param for param in params if id(param) not in own]
    unheld = [one for one in model.parameters() if one.requires_grad and id(one) not in held]
    return (
        bool(left)
        and all(one.grad is None for one in left)
        and all(one.grad is not None for one in unheld)
        and _may_replace(left, unheld)
        and not optimizers_of({id(one) for one in unheld})
        and _are_forgotten(left, params, chosen, model)
    )


def _may_replace(old: Sequence[Tensor], new: Sequence[Tensor]) -> bool:
    """Whether each new parameter fits where an old one was: what comes in, or what goes out, is as wide as it was."""
    pairs = list(zip(sorted(old, key=Tensor.dim), sorted(new, key=Tensor.dim), strict=False))
    return len(old) == len(new) and all(
        was.dim() == now.dim()
        and (was.dim() < _WIDTHS or any(map(int.__eq__, was.shape[:_WIDTHS], now.shape[:_WIDTHS])))
        for was, now in pairs
    )


def _are_forgotten(
    left: Sequence[Tensor], params: Sequence[Tensor], chosen: Sequence[nn.Module], model: nn.Module
) -> bool:
    """Whether parameters outside of the model are held by nothing any more but what a loop has left behind."""
    ids = {id(param) for param in left}
    holders = [one for one in _roots() if one is not model and _ids(one) & ids]
    loose = [param for param in left if not any(id(param) in _ids(one) for one in holders)]
    for one in holders:  # a generator would hold it too
        if not left_by_a_loop(one, [chosen, holders]):
            return False
    return _are_nameless(loose, params)


def _list_of(name: str) -> str | None:
    """``params`` of ``params[3]``."""
    variable, bracket, _ = name.partition("[")
    return variable if bracket else None


def _roots() -> list[nn.Module]:
    """Modules that are part of no other, wrappers looked through."""
    modules = [one for one in living(nn.Module) if not isinstance(one, Gathered)]
    wrappers = [one for one in modules if type(one).__name__ in _WRAPPERS]
    passed = {id(one) for one in wrappers}
    inside = {id(child) for one in modules if id(one) not in passed for child in _children(one)}
    return [one for one in modules if id(one) not in inside and id(one) not in passed]


def _children(module: nn.Module) -> Iterable[nn.Module]:
    try:
        return [child for child in module.children() if child is not module]
    except Exception:  # noqa: BLE001 - a module whose __init__ is still to run has no children yet
        return ()


def _ids(module: nn.Module) -> set[int]:
    try:
        return {id(param) for param in module.parameters()}
    except Exception:  # noqa: BLE001 - as above
        return set()


def _gathered(modules: Sequence[nn.Module], loose: Sequence[Tensor]) -> nn.Module:
    if len(modules) == 1 and not any(isinstance(one, nn.Parameter) for one in loose):
        return modules[0]
    # Next to a model, a tensor that is no Parameter is data that wants a gradient.
    tensors = [one for one in loose if not modules or isinstance(one, nn.Parameter)]
    names = variable_names([*modules, *tensors])
    whole = Gathered()
    for module in modules:
        name = names.get(id(module), type(module).__name__.lower())
        whole._modules[_free(name, whole._modules)] = module  # noqa: SLF001 - add_module takes no "nets[0]"
    for tensor in tensors:
        name = names.get(id(tensor), f"param{len(whole._parameters)}")  # noqa: SLF001 - as below
        # register_parameter takes only Parameters.
        whole._parameters[_free(name, whole._parameters)] = tensor  # type: ignore[assignment]  # noqa: SLF001
    whole.take_name()
    return whole


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, with a number where it is taken."""
    if name not in taken:
        return name
    number = 2
    while f"{name}{number}" in taken:
        number += 1
    return f"{name}{number}"


def _listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _MOST_TITLES
    return f"{', '.join(names[:_MOST_TITLES])} and {more} more" if more > 0 else " and ".join(names)
