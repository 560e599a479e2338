"""Which families constants may be chosen on, and which only judge.

Whole families, never cases, and decided before the first run: a rule that was bent to fit a sigmoid stack would
know the other sigmoid stacks too. Neither half is the easy one: both have faults that a look before training shows
and such that strike in mid-run, and the noisiest healthy runs (`noisy`) are among those that judge.
"""

from __future__ import annotations

TUNING = frozenset(
    {
        # faulty
        "depth",
        "rate",
        "data",
        "numerics",
        "wiring",
        "recurrent",
        "answers",
        # healthy
        "healthy mlp",
        "healthy recurrent",
        "healthy regimes",
        "healthy border",
    }
)
"""Constants may be chosen on these."""

JUDGED = frozenset(
    {
        # faulty
        "activations",
        "loss",
        "precision",
        "transformers",
        "vision",
        "optimizer",
        # healthy
        "healthy cnn",
        "healthy transformer",
        "healthy noisy",
    }
)
"""No constant was chosen on these; but whoever wrote the rules has seen which of them fail."""

FRESH = frozenset({"fresh", "healthy fresh"})
"""Written when the rules were there, and run once before anything was changed; see RESULTS.md for that first run."""


AFRESH = frozenset({"afresh", "healthy afresh"})
"""Written later still, by somebody who hadn't read the remedies, and each fault known to be curable."""

PARTS = {"afresh": AFRESH, "fresh": FRESH, "judged": JUDGED, "tuning": TUNING}
"""In the order of the tables."""


def half(family: str) -> str:
    """Where a family counts."""
    return next(name for name, families in PARTS.items() if family in families)
