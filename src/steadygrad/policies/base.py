"""What a policy is: a Measurement goes in, a factor for the gradients comes out.

Rules every policy keeps:

* ``scale`` and ``rewrite_`` run on the gradients' device and never read from it (no ``.item()``,
  no ``if tensor``): what a policy needs from the past it has learnt, on the host, from Readings.
* ``learn`` gets raw Readings, before any clipping, one step late on an accelerator. Non-finite
  ones never reach it: one NaN can't poison or switch off a statistic.
* memory is bounded, and everything learnt is in ``state_dict``.
* skipping a non-finite step is not a policy's business: the monitor does it before asking.

Shape legend: P parameters the optimizer holds, p those of them that have a gradient.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, SupportsFloat

from steadygrad.errors import PolicyError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

    from steadygrad.measure import Measurement
    from steadygrad.records import FloatArray, Incident, Reading, TensorInfo


PUT_OFF = 8
"""Steps that a policy may not have learnt from yet where `Policy.leaves_alone_up_to` holds."""


class Policy:
    """Base of all policies; by itself it leaves every gradient alone.

    Attributes:
        cap: total norm above which the newest step was to be scaled, where the policy has such a
            number on the host; recorded beside the norm.
        needs_param_norms: whether ``Measurement.param_norms`` is used (it costs a pass over the
            parameters every few steps).
        always_on: whether scaling most steps is what this policy is for (then a high share of
            scaled steps is no finding).
        rewrites: whether ``rewrite_`` does anything; known from the class, so that it isn't called in vain.
    """

    needs_param_norms: ClassVar[bool] = False
    always_on: ClassVar[bool] = False
    rewrites: ClassVar[bool] = False
    cap: float | None = None
    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Note whether ``rewrite_`` is the base's, which does nothing; what is asked less than `scale` must be of one mind with it."""
        super().__init_subclass__(**kwargs)
        cls.rewrites = cls.rewrite_ is not Policy.rewrite_
        judges = not {"scale", "lr_factor"}.isdisjoint(cls.__dict__)
        if judges and "leaves_alone_up_to" not in cls.__dict__:
            cls.leaves_alone_up_to = Policy.leaves_alone_up_to  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep what the policy is made with, for `fresh`."""
        policy = super().__new__(cls)
        policy._made_with = args, kwargs
        return policy

    def prepare(self, tensors: Sequence[TensorInfo], param_norms: FloatArray) -> None:
        """Meet the parameters, on the host: once before the first step and when some were added.

        Args:
            tensors: name, shape and dtype of the parameters, ``P`` entries.
            param_norms: their norms ``[P]``.
        """
        del tensors, param_norms

    def scale(self, measurement: Measurement) -> Tensor | None:
        """Factor for the gradients: 0-d, ``[P]``, or None to leave them all alone.

        Called once a step, before ``rewrite_``. Factors lie in (0, 1] unless the policy's
        docstring says otherwise.
        """
        del measurement
        return None

    def leaves_alone_up_to(self, measurement: Measurement) -> float:
        """Total norm up to which ``scale`` would surely change nothing, and ``lr_factor`` nothing either; ``-inf`` without one.

        Asked first, in host memory, to spare a healthy step the rest: then neither of the two is called, and the
        Reading may come to ``learn`` up to `PUT_OFF` steps late, together with others. So it must hold for all these
        steps, as long as they are made at the same rates and their norms keep to it; ``cap`` stays what it was.

        Args:
            measurement: of a step; its rates count, its norms don't.
        """
        del measurement
        return -math.inf

    def rewrite_(self, measurement: Measurement) -> Tensor | None:
        """Change ``measurement.grads`` element- or row-wise, in place, where a factor can't.

        Thresholds must be multiplied by ``measurement.grad_scale`` where that is set. Returns the
        smallest factor applied, 0-d, or None where nothing is ever rewritten.
        """
        del measurement
        return None

    def lr_factor(self, measurement: Measurement) -> float:
        """What to multiply the learning rate by, for this step only; called after ``scale``."""
        del measurement
        return 1.0

    def note(self) -> object:
        """What ``scale`` has just concluded and `learn` will want back; asked for right after it.

        On an accelerator the next step has been scaled, at another rate perhaps, before `learn` gets
        the Reading of this one.
        """
        return None

    def recall(self, note: object) -> None:
        """Take back what `note` returned for the step whose Reading comes next."""
        del note

    def learn(self, reading: Reading) -> tuple[Incident, ...]:
        """Update the statistics from one finite Reading; returns what is worth announcing."""
        del reading
        return ()

    def skipped(self, reading: Reading) -> tuple[Incident, ...]:
        """A step was left out as non-finite: a fact worth knowing, but no number to learn from."""
        del reading
        return ()

    def explain(self) -> str:
        """What the policy has done so far, one or more lines for a person; empty if nothing."""
        return ""

    def state_dict(self) -> dict[str, Any]:
        """Everything learnt, as plain numbers, strings, lists and dicts: ``torch.load`` trusts no more."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        del state

    def fresh(self) -> Self:
        """A policy made with the same arguments and nothing learnt: each optimizer has its own."""
        args, kwargs = copy.deepcopy(self._made_with)
        return type(self)(*args, **kwargs)


def require_positive(policy: str, name: str, value: float) -> float:
    """Return ``value`` as a float, or raise a PolicyError that says what was expected."""
    number = _number(policy, name, value)
    if not 0.0 < number < float("inf"):
        raise PolicyError(f"{policy}({name}={value!r}): {name} must be a finite number above 0.")
    return number


def require_between(policy: str, name: str, value: float, low: float, high: float) -> float:
    """Return ``value`` as a float if ``low <= value <= high``, or raise a PolicyError."""
    number = _number(policy, name, value)
    if not low <= number <= high:
        raise PolicyError(f"{policy}({name}={value!r}): {name} must lie between {low:g} and {high:g}.")
    return number


def require_count(policy: str, name: str, value: object, low: int = 1) -> int:
    """Return ``value`` if it is a whole number of at least ``low``, or raise a PolicyError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise PolicyError(f"{policy}({name}={value!r}): {name} must be a whole number of at least {low}.")
    return value


def _number(policy: str, name: str, value: object) -> float:
    # A text or a truth value that happens to convert is a mistake of the caller's, caught late.
    if isinstance(value, bool | str | bytes) or not isinstance(value, SupportsFloat):
        raise PolicyError(f"{policy}({name}={value!r}): {name} must be a number.")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise PolicyError(f"{policy}({name}={value!r}): {name} must be a number.") from None
