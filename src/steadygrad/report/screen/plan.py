"""How the lines of a terminal are shared out."""

from __future__ import annotations

from dataclasses import dataclass

WIDE = 118
"""Columns from which two things stand side by side."""

_TALLEST, _SMALLEST = 6, 2
_AROUND = 3  # a picture's heading, the line of its marks, and that of its ends
_FEW, _MANY = 3, 12


@dataclass(frozen=True, slots=True)
class Plan:
    """What fits.

    Attributes:
        wide: whether pictures, and tensors and findings, stand side by side.
        picture: lines of a picture; 0 for none.
        loss: whether there is a picture of the loss.
        tensors: tensors listed; 0 leaves out the heading too.
        findings: findings listed, likewise.
    """

    wide: bool
    picture: int
    loss: bool
    tensors: int
    findings: int


def share_out(width: int, height: int | None, *, has_loss: bool, findings: int) -> Plan:
    """Share out the lines: what a person needs first is dropped last.

    Args:
        width: columns.
        height: lines below the head; None where there is no end to them.
        has_loss: whether there is a loss to draw.
        findings: how many findings there are.

    Returns:
        The plan; it needs at most ``height`` lines.
    """
    wide = width >= WIDE
    if height is None:
        return Plan(wide, _TALLEST - 2, has_loss, 8, min(findings, 8))
    for loss in (True, False) if has_loss else (False,):
        stacked = 2 if loss and not wide else 1
        for picture in range(_TALLEST, _SMALLEST - 1, -1):
            rest = height - stacked * (picture + _AROUND)
            if rest >= _least(findings, wide=wide):
                return Plan(wide, picture, loss, *_lists(rest, findings, wide=wide))
    tensors, told = _lists(height, findings, wide=wide)
    return Plan(wide, 0, loss=False, tensors=tensors, findings=told)


def _least(findings: int, *, wide: bool) -> int:
    few = min(findings, _FEW)
    return 1 + _FEW if wide or not few else 2 + _FEW + few


def _lists(lines: int, findings: int, *, wide: bool) -> tuple[int, int]:
    """Tensors and findings that fit into ``lines``, headings included."""
    if wide:
        each = min(max(lines - 1, 0), _MANY)
        return each, min(each, findings)
    told = min(findings, max((lines - 2) // 2, 0), _MANY)
    rest = lines - (told + 1 if told else 0)
    return min(max(rest - 1, 0), _MANY), told
