"""How a run shows itself in a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from steadygrad.records import Finding

if TYPE_CHECKING:
    from steadygrad.runfile.reader import Run

_MOST_FINDINGS = 6


def run_html(run: Run) -> str:
    """Write what the run is, how far it is and its newest findings, as HTML.

    Args:
        run: the run.

    Returns:
        One element; whatever comes from the file is escaped.
    """
    rows = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in _facts(run) if text)
    told = "".join(f"<li>{_line(finding)}</li>" for finding in reversed(run.findings[-_MOST_FINDINGS:]))
    rest = len(run.findings) - _MOST_FINDINGS
    more = f"<p>and {rest:,} before</p>" if rest > 0 else ""
    findings = f"<p>newest findings</p><ul>{told}</ul>{more}" if told else "<p>no findings</p>"
    return f"<div style='overflow-wrap: anywhere'><b>{html.escape(run.info.name)}</b><dl>{rows}</dl>{findings}</div>"


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    info, steps = run.info, int(run.resolution.sum())
    yield "trained", ", ".join(part for part in (info.model, *info.optimizers) if part)
    yield "mode", f"{info.mode}, policy {info.policy}" if info.policy else info.mode
    state = "finished" if run.finished else "still written, or cut off"
    yield "steps", f"{steps:,}, {state}"
    yield "tensors", f"{len(info.tensors):,}"
    yield "loss", _loss(run)
    norms = run.total_norm[np.isfinite(run.total_norm)]
    yield "total norm", f"median {np.median(norms):.4g}, largest {norms.max():.4g}" if norms.size else ""
    counts = {"scaled down": (run.clip_coef < 1.0) & ~run.skipped, "skipped": run.skipped}
    counts["non-finite"] = run.nonfinite_count > 0
    yield "rows", ", ".join(f"{int(rows.sum()):,} {what}" for what, rows in counts.items() if rows.any())
    yield "file", run.path


def _loss(run: Run) -> str:
    logged = run.loss[run.loss_logged]
    finite = logged[np.isfinite(logged)]
    if not finite.size:
        return "never finite" if logged.size else ""
    return f"{finite[0]:.4g} first, {f'{logged[-1]:.4g}' if np.isfinite(logged[-1]) else 'not finite'} last"


def _line(finding: Finding) -> str:
    return f"step {finding.step:,}, {html.escape(finding.severity)}: {html.escape(finding.summary)}"
