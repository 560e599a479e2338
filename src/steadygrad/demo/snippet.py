"""Eight lines that look like training and train nothing, and what steadygrad says about them."""

from __future__ import annotations

from typing import Any

from steadygrad.notices import quiet
from steadygrad.records import Finding

SNIPPET = """\
import torch
from torch import nn

model = nn.Linear(10, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = torch.tensor(100.0, requires_grad=True)
loss.backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
optimizer.step()
"""
"""The loss is a constant: no gradient reaches the model, and nothing says so."""

_WATCH = "monitor = sg.watch(model, optimizer)\n"
_ATTACH_AFTER = "optimizer = "


def watched(snippet: str = SNIPPET) -> str:
    """The snippet with the one line that puts it under watch."""
    lines = snippet.splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if line.startswith(_ATTACH_AFTER)) + 1
    return "".join(["import steadygrad as sg\n", *lines[:place], _WATCH, *lines[place:]])


def findings() -> tuple[Finding, ...]:
    """Run the snippet under watch and return what was found."""
    names: dict[str, Any] = {}
    with quiet():
        exec(compile(watched(), "<snippet>", "exec"), names)  # noqa: S102 - what runs is what is shown
    monitor = names["monitor"]
    monitor.close()
    found: tuple[Finding, ...] = monitor.findings
    return found
