"""`chain`: several policies at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from steadygrad.errors import PolicyError
from steadygrad.measure import Measurement
from steadygrad.policies.base import Policy
from steadygrad.records import FloatArray, Incident, Reading, TensorInfo


class Chain(Policy):
    """Apply the smallest factor that any of several policies asks for; see `chain`."""

    def __init__(self, *policies: Policy) -> None:
        if not policies:
            raise PolicyError("chain(): expected at least one policy, like chain(zclip(), clip_norm(1.0)).")
        for position, policy in enumerate(policies):
            _require_policy(position, policy)
        self.policies = policies
        # Known only per chain, so set on the instance.
        self.needs_param_norms = any(p.needs_param_norms for p in policies)  # type: ignore[misc]
        self.always_on = any(p.always_on for p in policies)  # type: ignore[misc]
        self._set_cap()

    def prepare(self, tensors: Sequence[TensorInfo], param_norms: FloatArray) -> None:
        """Let every policy meet the parameters."""
        for policy in self.policies:
            policy.prepare(tensors, param_norms)
        self._set_cap()

    def scale(self, measurement: Measurement) -> Tensor | None:
        """Elementwise minimum of all factors: 0-d, ``[P]``, or None where no policy has one."""
        factor = _smallest(policy.scale(measurement) for policy in self.policies)
        self._set_cap()
        return factor

    def rewrite_(self, measurement: Measurement) -> Tensor | None:
        """Let the policies rewrite the gradients one after the other, in their order."""
        return _smallest([policy.rewrite_(measurement) for policy in self.policies])

    def lr_factor(self, measurement: Measurement) -> float:
        """Smallest factor that a policy asks for."""
        return min(policy.lr_factor(measurement) for policy in self.policies)

    def note(self) -> object:
        """The notes of all policies."""
        return tuple(policy.note() for policy in self.policies)

    def recall(self, note: object) -> None:
        """Give every policy its own note back."""
        if isinstance(note, tuple):
            for policy, own in zip(self.policies, note, strict=True):
                policy.recall(own)

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Hand the raw reading to every policy; returns all they announce."""
        incidents = [incident for policy in self.policies for incident in policy.learn(reading)]
        self._set_cap()
        return tuple(incidents)

    def skipped(self, reading: Reading) -> tuple[Incident, ...]:
        """Tell every policy of the skipped step; returns all they announce."""
        incidents = [incident for policy in self.policies for incident in policy.skipped(reading)]
        self._set_cap()
        return tuple(incidents)

    def explain(self) -> str:
        """What each policy says; the counts are those of the chain as a whole."""
        told = [text for text in (policy.explain() for policy in self.policies) if text]
        if not told:
            return ""
        head = f"{self!r}: the smallest factor counts, and each policy counts what any of them scaled."
        return "\n".join([head, *told])

    def state_dict(self) -> dict[str, Any]:
        """The state of every policy, by position."""
        return {"policies": [policy.state_dict() for policy in self.policies]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; the chain must have as many policies."""
        states = state["policies"]
        if len(states) != len(self.policies):
            raise PolicyError(
                f"{self!r}: expected the state of {len(self.policies)} policies, got {len(states)}; "
                "build the chain as it was when the state was saved."
            )
        for policy, own in zip(self.policies, states, strict=True):
            policy.load_state_dict(own)
        self._set_cap()

    def fresh(self) -> Chain:
        """A chain of the same policies, with nothing learnt."""
        return Chain(*(policy.fresh() for policy in self.policies))

    def __repr__(self) -> str:
        """The call that makes this policy."""
        return f"chain({', '.join(repr(policy) for policy in self.policies)})"

    def _set_cap(self) -> None:
        self.cap = min((policy.cap for policy in self.policies if policy.cap is not None), default=None)


def chain(*policies: Policy) -> Chain:
    """Use several policies at once: each gradient gets the smallest factor any of them asks for.

    All of them judge and learn the same raw norms, so their order doesn't matter, except among
    policies that rewrite elements or rows (`clip_value`, `agc`), which do so one after the other.
    The learning rate gets the smallest factor as well; factors are never multiplied together.

    Args:
        *policies: at least one policy; chains may be nested.

    Returns:
        The policy.

    Raises:
        PolicyError: there is no policy, or an argument isn't one.

    Example:
        >>> from steadygrad.policies import clip_norm, zclip
        >>> chain(zclip(), clip_norm(1.0))
        chain(zclip(2.5, alpha=0.97), clip_norm(1.0))
    """
    return Chain(*policies)


def _require_policy(position: int, policy: object) -> None:
    if isinstance(policy, Policy):
        return
    hint = "; call it with its arguments first" if callable(policy) else ""
    raise PolicyError(
        f"chain(): argument {position} must be a policy like clip_norm(1.0), got {policy!r}{hint}."
    )


def _smallest(factors: Iterable[Tensor | None]) -> Tensor | None:
    given = [factor for factor in factors if factor is not None]
    return reduce(torch.minimum, given) if given else None
