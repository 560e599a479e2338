"""Which rank brought it: one rank alone means its data or its device, all ranks mean the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from steadygrad.ranks.ranks import Ranks
from steadygrad.ranks.seen import Seen
from steadygrad.records import Finding

_ABOUT_NUMBERS = frozenset(
    {
        "divergence",
        "exploding_gradient",
        "loss_spike",
        "nonfinite_activation",
        "nonfinite_gradient",
        "nonfinite_input",
        "nonfinite_loss",
    }
)
_APART = 10.0
"""A rank's gradient this many times the ranks' median is its own affair: batches of one set differ by less."""


def tell_rank(ranks: Sequence[Ranks], finding: Finding) -> Finding:
    """The finding, with the rank that brought it where the ranks' own numbers tell.

    Args:
        ranks: those of each optimizer.
        finding: what was found.
    """
    if finding.kind not in _ABOUT_NUMBERS or finding.optimizer >= len(ranks):
        return finding
    seen = ranks[finding.optimizer].seen(finding.step)
    alike = ranks[finding.optimizer].peers.rows is None
    text, guilty = ("", None) if seen is None else _judge(seen, alike=alike)
    evidence = finding.evidence if guilty is None else {**finding.evidence, "guilty_rank": float(guilty)}
    return replace(finding, summary=f"{finding.summary}{text}", evidence=evidence) if text else finding


def _judge(seen: Seen, *, alike: bool) -> tuple[str, int | None]:
    # Where only some log a loss (the last stage of a pipeline, rank 0) it is not theirs alone.
    loss_bad = seen.bad_losses & (not seen.lags and seen.logged == seen.world)
    norm_bad = ~np.isfinite(seen.norms)
    bad = np.flatnonzero(loss_bad | norm_bad).tolist()
    world = len(seen.norms)
    if len(bad) == world:
        return f" All {world} ranks have it: the training, not the data of one rank.", None
    if bad:
        what = "loss" if loss_bad[bad].all() else "own gradient, before reduction,"
        one = len(bad) == 1
        who = f"Rank {bad[0]} alone" if one else f"Ranks {', '.join(map(str, bad))}"
        was = f"its {what} was" if one else f"the {what} of each was"
        begun = f" {who} of {world} brought it at step {seen.step}: {was} not finite."
        return f"{begun} Look at the batch or the device of {'that rank' if one else 'those ranks'}.", bad[0]
    if not alike or (seen.norms < 0.0).any():
        return "", None
    largest = int(seen.norms.argmax())
    others = float(np.median(np.delete(seen.norms, largest)))
    ratio = float(seen.norms[largest]) / others if others > 0.0 else 0.0
    if ratio < _APART:
        return "", None
    begun = f" Rank {largest} of {world} brought it at step {seen.step}: its own gradient, before reduction,"
    return f"{begun} was {ratio:,.0f} x the median of the others (from a few sampled tensors).", largest
