"""What ``--try`` asks for: ``clip=1.0``, ``lr=0.3x``, ``fp32``, or several with commas in between."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from difflib import get_close_matches

from steadygrad.errors import UsageError
from steadygrad.launch.policy_call import PolicyCall, parse_policy

NO_GUARD = "no guard"
AS_IT_WAS = "as it was"
FORMS = (
    "clip=1.0",
    "lr=0.3x",
    "lr=0.001",
    "eps=1e-6",
    "fp32",
    "fp64",
    "skip",
    "drop-rows",
    "policy=steady",
)
_WORDS = ("clip", "lr", "eps", "policy", "fp32", "fp64", "skip", "drop-rows")


@dataclass(frozen=True, slots=True)
class Change:
    """What is done differently in a replayed step.

    Attributes:
        label: as it was typed.
        policy: the policy instead of the run's own; None keeps that.
        guarded: whether a guard is attached at all.
        lr: the learning rate of every group.
        lr_factor: what the groups' rates are multiplied by.
        eps: the optimizer's ``eps``.
        dtype: ``float32`` or ``float64`` for weights and inputs, without autocast.
        skip: no step is made.
        drop_rows: without the rows that carry the fault.
    """

    label: str
    policy: PolicyCall | None = None
    guarded: bool = True
    lr: float | None = None
    lr_factor: float = 1.0
    eps: float | None = None
    dtype: str = ""
    skip: bool = False
    drop_rows: bool = False


def parse_change(text: str) -> Change:
    """Read one ``--try``.

    Args:
        text: one change, or several with commas in between.

    Raises:
        UsageError: there is no such change, or it has no such value.

    Example:
        >>> parse_change("lr=0.3x,fp32").lr_factor
        0.3
    """
    change = Change(text)
    for part in _parts(text):
        word, _, value = part.strip().partition("=")
        change = _with(change, word.strip(), value.strip(), text)
    return change


def _parts(text: str) -> list[str]:
    """The text between commas that stand outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _with(change: Change, word: str, value: str, text: str) -> Change:
    if word in {"fp32", "fp64", "skip", "drop-rows"} and value:
        raise UsageError(f"--try {text}: {word} takes no value.")
    if word in {"fp32", "fp64"}:
        return replace(change, dtype={"fp32": "float32", "fp64": "float64"}[word])
    if word == "skip":
        return replace(change, skip=True)
    if word == "drop-rows":
        return replace(change, drop_rows=True)
    if word == "clip":
        return replace(change, policy=PolicyCall("clip_norm", (_positive(value, text),), {}))
    if word == "eps":
        return replace(change, eps=_positive(value, text))
    if word == "lr" and value.endswith("x"):
        return replace(change, lr_factor=_positive(value[:-1], text))
    if word == "lr":
        return replace(change, lr=_positive(value, text))
    if word == "policy":
        return replace(change, policy=_policy(value, text))
    near = get_close_matches(word, _WORDS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"--try {text}: there is no change {word!r}. {hint}There are {', '.join(FORMS)}.")


def _positive(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise UsageError(
            f"--try {text}: expected a number above 0, got {value!r}. There are {', '.join(FORMS)}."
        )
    return number


def _policy(value: str, text: str) -> PolicyCall:
    try:
        return parse_policy(value)
    except UsageError as error:
        raise UsageError(f"--try {text}: {str(error).removeprefix('--policy').lstrip(': ')}") from None
