"""Faults of what multiplies the gradient: clipping and loss scaling."""

from __future__ import annotations

from steadygrad.catalog.entry import TRACE, Entry
from steadygrad.records import Remedy

ENTRIES: tuple[Entry, ...] = (
    Entry(
        kind="clip_is_step_limiter",
        title="Clipping acts at nearly every step",
        meaning="The clip no longer catches outliers: it sets the length of every step.",
        causes=(
            "max_norm is below the usual gradient norm of this model.",
            "The loss is summed instead of averaged, which multiplies the norm by the batch size.",
            "The learning rate is too large and the clip hides it.",
        ),
        remedies=(
            Remedy(
                "Let the cap follow the usual norm of the run",
                "guard = steadygrad.guard(model, optimizer, policy=steadygrad.policies.auto())",
            ),
            Remedy(
                "Raise max_norm above the usual norm and lower the learning rate to match",
                "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)",
            ),
            Remedy("Average the loss over the batch", 'nn.CrossEntropyLoss(reduction="mean")'),
            Remedy(
                "If normalised steps are what you want, choose them on purpose",
                "guard = steadygrad.guard(model, optimizer, policy=steadygrad.policies.steady())",
            ),
        ),
        verify="Fewer than one step in ten is clipped once the run has settled.",
        reference="Zhang et al., Why gradient clipping accelerates training, 2020, arXiv:1905.11881, "
        "section 2",
    ),
    Entry(
        kind="overflow_streak",
        title="The loss scaler finds no scale",
        meaning="GradScaler skips step after step: the NaN or Inf doesn't come from the scale.",
        causes=(
            "The model or the loss produces a NaN or an Inf at any scale.",
            "A batch holds a NaN or an Inf.",
            "Weights have already become non-finite, so no later step can be finite.",
            "An activation passes 65504, the largest number of float16, in the forward pass.",
        ),
        remedies=(
            TRACE,
            Remedy(
                "Use bfloat16, which has the range of float32 and needs no scaler",
                'torch.autocast("cuda", dtype=torch.bfloat16)',
            ),
            Remedy(
                "Compute the loss in float32",
                'with torch.autocast("cuda", enabled=False): loss = loss_fn(output.float(), target)',
            ),
        ),
        verify="The scaler's scale stops falling: print(scaler.get_scale()).",
        reference="Micikevicius et al., Mixed precision training, 2018, arXiv:1710.03740, section 3.2; "
        "https://docs.pytorch.org/docs/stable/notes/amp_examples.html",
    ),
)
