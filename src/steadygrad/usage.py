"""Is this call any use? Checks at the door, each with the value, the place and the way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from steadygrad.errors import UsageError
from steadygrad.measure import parameter_names
from steadygrad.policies import Policy


def as_optimizers(call: str, optimizer: Optimizer | Iterable[Optimizer] | None) -> tuple[Optimizer, ...]:
    """One optimizer, several or none, as a tuple; anything else raises a UsageError."""
    if optimizer is None:
        return ()
    is_one = isinstance(_unwrapped(optimizer), Optimizer)
    many: Iterable[Any] = optimizer if isinstance(optimizer, Iterable) and not is_one else [optimizer]
    found = [_unwrapped(one) for one in many]
    for one in found:
        if not isinstance(one, Optimizer):
            raise UsageError(
                f"{call}(model, optimizer): expected a torch.optim.Optimizer or a list of them, got "
                f"{type(one).__name__}. Pass the optimizer whose step() updates the model, or leave it out and "
                "call guard.clip_() in your loop."
            )
    if not found:
        raise UsageError(
            f"{call}(model, optimizer): there is no optimizer in it. Leave the argument out for a loop that "
            "updates its parameters by hand."
        )
    if len({id(one) for one in found}) < len(found):
        raise UsageError(f"{call}(model, optimizer): an optimizer is in it twice. Pass each of them once.")
    return tuple(found)


def _unwrapped(optimizer: Any) -> Any:
    """The torch optimizer whose step runs in the end, inside of Accelerate's and Lightning's wrappers.

    Accelerate's is an Optimizer by class, but was never initialised as one: it has no hooks.
    """
    inner = getattr(optimizer, "optimizer", None)
    if isinstance(inner, Optimizer) and "_optimizer_step_pre_hooks" not in vars(optimizer):
        return _unwrapped(inner)
    return optimizer


def asked_for(call: str, held: Sequence[Optimizer | None], optimizer: object, *, by_hand: bool) -> int:
    """Which of its optimizers a monitor is asked about.

    Args:
        call: the call, as the user wrote it.
        held: what the monitor is attached to, None for a loop by hand, and for one that has been collected.
        optimizer: what came; one of Accelerate's stands for the one inside of it.
        by_hand: it was attached to a loop by hand.

    Returns:
        Its position.

    Raises:
        UsageError: it is none of them.
    """
    wanted = _unwrapped(optimizer)
    for index, one in enumerate(held):
        if one is not None and one is wanted:
            return index
    alive = sum(one is not None for one in held)
    raise UsageError(f"{call}(optimizer): {_none_of(wanted, alive, 0 if by_hand else len(held) - alive)}")


def _none_of(wanted: object, alive: int, gone: int) -> str:
    """What is wrong with one that a monitor isn't attached to, and the way out."""
    kind = type(wanted).__name__
    way_out = (
        "Pass one of those it was attached to." if alive else "Attach it with one, as (model, optimizer)."
    )
    if not isinstance(wanted, Optimizer):
        return f"expected a torch.optim.Optimizer, got {kind}. {way_out}"
    if alive:
        return f"this {kind} is none of the {alive} optimizers that it is attached to. {way_out}"
    if not gone:
        return (
            f"there is no optimizer to compare this {kind} with: it was attached to a loop by hand. {way_out}"
        )
    its = "the optimizer that it was" if gone == 1 else f"all {gone} optimizers that it was"
    return f"{its} attached to {'is' if gone == 1 else 'are'} no more, and this {kind} is another. Attach a new one to it."


def check_model(call: str, model: object) -> None:
    """Raise a UsageError unless ``model`` is a module with something to train."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"{call}(model, ...): expected a torch.nn.Module, got {type(model).__name__}.")
    params = list(model.parameters())
    name = type(model).__name__
    if not params:
        raise UsageError(
            f"{call}(model, ...): {name} has no parameters, so there is nothing to train or watch."
        )
    if not any(param.requires_grad for param in params):
        raise UsageError(
            f"{call}(model, ...): all {len(params)} parameters of {name} are frozen (requires_grad=False). "
            "Unfreeze what you train, or pass the submodule you train."
        )


def check_overhead(call: str, overhead: object) -> None:
    """Raise a UsageError unless ``overhead`` is a share."""
    is_number = isinstance(overhead, (int, float)) and not isinstance(overhead, bool)
    if not is_number or not 0.0 <= float(overhead) <= 1.0:  # type: ignore[arg-type]
        raise UsageError(f"{call}(overhead={overhead!r}): expected a share of the step time between 0 and 1.")


def check_max_norm(call: str, max_norm: object) -> None:
    """Raise a UsageError unless ``max_norm`` is a norm that a loop can clip to, or None."""
    if max_norm is None:
        return
    is_number = isinstance(max_norm, (int, float)) and not isinstance(max_norm, bool)
    if not is_number or not float(max_norm) > 0.0:  # type: ignore[arg-type]
        raise UsageError(
            f"{call}(max_norm={max_norm!r}): expected the number above 0 that the loop clips to next, or None where it "
            "doesn't clip by itself."
        )


def check_policy(policy: object) -> None:
    """Raise a UsageError unless ``policy`` is a policy or None."""
    if policy is None or isinstance(policy, Policy):
        return
    name = getattr(policy, "__name__", "") if callable(policy) else ""
    hint = f" Did you mean policy={name}()?" if name else ""
    raise UsageError(
        f"guard(policy={name or repr(policy)}): expected a policy such as steadygrad.policies.clip_norm(1.0), got "
        f"{type(policy).__name__}.{hint}"
    )


def check_sink(call: str, sink: object) -> None:
    """Raise a UsageError unless ``sink`` takes what a sink is sent."""
    if not all(callable(getattr(sink, name, None)) for name in ("reading", "number", "finding", "close")):
        raise UsageError(
            f"{call}.send_to({sink!r}): expected a sink such as steadygrad.sinks.TensorBoard('logs'), got "
            f"{type(sink).__name__}."
        )


def check_teller(call: str, teller: object) -> None:
    """Raise a UsageError unless ``teller`` can be called."""
    if not callable(teller):
        raise UsageError(
            f"{call}.tell_with({teller!r}): expected a function that takes a Finding and returns one, got "
            f"{type(teller).__name__}."
        )


def check_shared(call: str, model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
    """Raise a UsageError for an optimizer that shares no parameter with the model."""
    names = parameter_names(model)
    for optimizer in optimizers:
        held = [param for group in optimizer.param_groups for param in group["params"]]
        if not any(id(param) in names for param in held):
            raise UsageError(
                f"{call}(model, optimizer): none of the {len(held)} parameters of this "
                f"{type(optimizer).__name__} belongs to {type(model).__name__}, so its steps can't train it. Was "
                "the model rebuilt, copied or moved after the optimizer was made? Build the optimizer from "
                "model.parameters() of the model you pass."
            )


def policy_name(policy: Policy | None) -> str:
    """What a saved state says of the policy it belongs to; empty for a watch."""
    return "" if policy is None else type(policy).__name__


def saved_tracks(state: object, policies: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """The parts of a monitor's saved state, one an optimizer, if they can belong to these policies.

    Args:
        state: what is to be loaded.
        policies: class name of each optimizer's policy; empty for a watch.

    Returns:
        The state of each optimizer.

    Raises:
        UsageError: it is no such state, or that of other optimizers or policies.
    """
    tracks = state.get("tracks") if isinstance(state, Mapping) else None
    if not isinstance(tracks, Sequence) or not all(isinstance(one, Mapping) for one in tracks):
        raise UsageError(
            f"load_state_dict(state): expected what state_dict() returned, got {type(state).__name__} "
            f"{'without' if tracks is None else 'with other'} 'tracks'. Save guard.state_dict() and load that."
        )
    if len(tracks) != len(policies):
        raise UsageError(
            f"load_state_dict(): expected the state of {len(policies)} optimizers, got {len(tracks)}. Load the "
            "state of a guard that was attached to the same optimizers."
        )
    for index, (track, mine) in enumerate(zip(tracks, policies, strict=True)):
        if missing := [key for key in ("step", "policy") if key not in track]:
            raise UsageError(
                f"load_state_dict(): the state of optimizer {index} has no {' and no '.join(map(repr, missing))}. "
                "Load what state_dict() returned, whole."
            )
        if (theirs := track.get("policy_name", mine)) != mine:
            raise UsageError(
                f"load_state_dict(): optimizer {index} has the policy {mine or 'of a watch (none)'}, the state is of "
                f"{theirs or 'a watch'}. Make the guard with the policy the state was saved with."
            )
    return tracks
