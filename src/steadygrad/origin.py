"""Where a non-finite number was made, as plain data: numpy-free, torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["input", "forward", "loss", "backward", "optimizer"]
PHASES: tuple[Phase, ...] = ("input", "forward", "loss", "backward", "optimizer")


LOSS_FACTOR = "loss_factor"
"""Stands for the operation where the loss was multiplied or divided by a number that was non-finite already."""

WITHOUT_OPERATION = {
    "input": "the batch",
    "constant": "a tensor from outside",
    "buffer": "a buffer",
    "parameter": "the weights",
    LOSS_FACTOR: "a factor of the loss (weights, targets, returns?)",
}
"""What stands for the operation where none of the step made the number."""

BESIDE = "beside"
"""What stands for the operation where the number came into the loss with a tensor that the model hasn't computed."""

VARIABLE = "variable "
"""What the operation begins with where the number was in a variable of the script; its name follows."""

DATA = "data"
"""What stands for the operation where a graph only tells that the number came from outside of it."""

LOSS = "loss"
"""What stands for the operation where the loss was computed outside of what can be replayed."""


MOST_ROWS = 8
"""Rows of the batch that are named; of a broken batch they are all of them."""

NO_SOURCE = "the source of this code isn't available"


def named_rows(rows: tuple[int, ...]) -> str:
    """The first `MOST_ROWS` of them, and whether there are more."""
    return f"{', '.join(map(str, rows[:MOST_ROWS]))}{' ...' * (len(rows) > MOST_ROWS)}"


@dataclass(frozen=True, slots=True)
class InputFacts:
    """One tensor that the guilty operation was given.

    Attributes:
        shape: its shape.
        dtype: dtype without the ``torch.`` in front.
        low: smallest finite value; NaN where there is none.
        high: largest finite value; NaN where there is none.
        nonfinite: how many elements are NaN or Inf.
    """

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class Origin:
    """The first operation of a step that made a non-finite number out of finite ones.

    Attributes:
        phase: ``input``, ``forward``, ``loss``, ``backward`` or ``optimizer``.
        kind: ``nan`` or ``inf``, whichever came out first.
        operation: ``aten.log``; for the backward phase the forward operation's autograd node,
            ``LogBackward0``.
        module: qualified name of the module it ran in, "" for the model itself, None outside of it.
        module_type: class of that module; "" outside of it.
        file: file of the user's line; for the backward phase that of the forward line. "" where the
            line isn't known, or none of the user's ran.
        lineno: number of that line; 0 where unknown.
        source: the line itself; "" where the source isn't available.
        inputs: what the operation was given.
        rows: rows of the batch that carry the fault; empty where it can't be told.
        path: modules the fault then passed through, first to last.
        note: what a reader should know besides; for instance that the fault came of an input that
            was already broken, or that only the output gradients were at hand.
    """

    phase: Phase
    kind: Literal["nan", "inf"]
    operation: str
    module: str | None
    module_type: str = ""
    file: str = ""
    lineno: int = 0
    source: str = ""
    inputs: tuple[InputFacts, ...] = ()
    rows: tuple[int, ...] = ()
    path: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        """Operation, place, line, inputs and rows, for a person."""
        name = {"nan": "NaN", "inf": "Inf"}[self.kind]
        lines = [f"{name} {self._made()} ({self.phase})"]
        if self.file:
            lines.append(f"  {self.file}:{self.lineno}: {self.source or NO_SOURCE}")
        lines += [f"  input {i}: {_facts(one)}" for i, one in enumerate(self.inputs)]
        if self.rows:
            lines.append(f"  batch rows {named_rows(self.rows)}")
        if self.path:
            lines.append(f"  passed on through {' -> '.join(name or 'the model' for name in self.path[:8])}")
        return "\n".join([*lines, f"  {self.note}"] if self.note else lines)

    def _made(self) -> str:
        if self.operation in WITHOUT_OPERATION:
            return f"was in {WITHOUT_OPERATION[self.operation]} before the step began"
        if self.operation == BESIDE:
            return "came into the loss beside the model's output: with targets, weights, or what was computed from them"
        if self.operation.startswith(VARIABLE):
            return f"was in {self.operation.removeprefix(VARIABLE)} already when the loss was computed"
        if self.operation == DATA:
            return "came with data that no gradient flows to: the batch, or what was computed of it"
        if self.operation == LOSS:
            return f"first made by the loss, in {self._place()}"
        return f"first made by {self.operation} in {self._place()}"

    def _place(self) -> str:
        if self.module is None:
            # Read off the graph of a loss, where no line tells whether the model's own last lines ran it.
            beyond = self.phase in {"loss", "backward"} and self.operation != LOSS and not self.file
            return "code after the model's last layer" if beyond else "code outside the model"
        return f"{self.module or 'the model'} ({self.module_type})" if self.module_type else self.module


def _facts(one: InputFacts) -> str:
    values = "no finite value" if one.low != one.low else f"{one.low:.4g} to {one.high:.4g}"
    broken = f", {one.nonfinite:,} non-finite" if one.nonfinite else ""
    return f"{one.dtype}{list(one.shape)} {values}{broken}"
