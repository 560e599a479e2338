"""What a training has left behind, as plain values: equal means equal to the last bit, NaN to NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor


def without_copies(summary: str, folder: Path) -> str:
    """A summary without what depends on when a copy was taken, or on where the run file lies."""
    lines = summary.replace(str(folder), "").splitlines()
    return "\n".join(line for line in lines if "cop" not in line)


def told(finding: Any) -> Any:
    return finding.kind, finding.step, finding.where, finding.summary


def canon(value: Any) -> Any:
    """Equal means equal to the last bit, NaN to NaN."""
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().cpu().contiguous().numpy().tobytes()
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        return str(value.dtype), value.shape, value.tobytes()
    if hasattr(value, "__dataclass_fields__"):
        return {
            name: canon(getattr(value, name))
            for name in value.__dataclass_fields__
            if name not in ("time_s", "cap")
        }
    if isinstance(value, dict):
        return {str(key): canon(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [canon(one) for one in value]
    return repr(value)
