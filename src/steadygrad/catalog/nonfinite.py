"""NaN and Inf, by the place where the first one was made."""

from __future__ import annotations

from steadygrad.catalog.entry import GUARD_CODE, TRACE, Entry
from steadygrad.records import Remedy

_GUARD = Remedy("Leave such steps out", GUARD_CODE)
_ANOMALY_PAGE = "https://docs.pytorch.org/docs/stable/notes/faq.html"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        kind="nonfinite_input",
        title="NaN or Inf in the batch",
        meaning="The data held a NaN or an Inf before the model saw it.",
        causes=(
            "A broken or missing value in the data: an empty cell, a failed decode, a division in the loader.",
            "An augmentation divides by a spread or a length that is 0 for some example.",
            "The target is computed (a logarithm, a ratio) and has no value for some example.",
        ),
        remedies=(
            Remedy("Refuse broken examples", "assert all(torch.isfinite(x).all() for x in batch)"),
            Remedy("Drop the rows that hold one", "keep = torch.isfinite(inputs.flatten(1)).all(1)"),
            _GUARD,
        ),
        verify="all(torch.isfinite(x).all() for x in batch) holds for every batch of the loader.",
        reference=_ANOMALY_PAGE,
    ),
    Entry(
        kind="nonfinite_activation",
        title="NaN or Inf in the forward pass",
        meaning="An operation of the model returned a NaN or an Inf for finite inputs.",
        causes=(
            "An operation has no finite value at its input: log(0), 0/0, a softmax row masked completely.",
            "Signals grow from layer to layer until they overflow (initialisation, no normalisation).",
            "Half precision: a value passed 65,504.",
            "Earlier steps were too large and carried the weights away.",
        ),
        remedies=(
            Remedy("Keep log, sqrt and division away from 0", "torch.log(x.clamp_min(1e-12))"),
            TRACE,
            Remedy("Compute this part in float32", "x = layer(x.float())"),
            _GUARD,
        ),
        verify="steadygrad.trace(model, batch, loss_fn) returns None for the batch of that step.",
        reference=_ANOMALY_PAGE,
    ),
    Entry(
        kind="nonfinite_loss",
        title="NaN or Inf in the loss",
        meaning="The loss is no finite number although the model's output is, or it was logged as one.",
        causes=(
            "log(0) or a division by 0 in the loss: probabilities of 0, an empty mask, no positive example.",
            "The predictions have left the range that the loss can express.",
            "The target holds a NaN, or is empty for this batch (mean of nothing).",
            "The output itself was non-finite already.",
        ),
        remedies=(
            Remedy(
                "Give logits to a loss that takes the logarithm itself", "F.cross_entropy(logits, targets)"
            ),
            Remedy("Divide by at least 1", "loss = losses.sum() / max(mask.sum(), 1)"),
            TRACE,
            _GUARD,
        ),
        verify="The loss of the same batch is finite, and steadygrad.trace(model, batch, loss_fn) "
        "returns None.",
        reference=_ANOMALY_PAGE,
    ),
    Entry(
        kind="nonfinite_parameter",
        title="NaN or Inf in the weights",
        meaning="A parameter is no finite number any more; every step from here on is lost.",
        causes=(
            "A step with a non-finite gradient was carried out.",
            "The step was so large that the weights overflowed: learning rate, or an optimizer state that is broken.",
            "Half-precision weights, or an epsilon that half precision rounds to 0.",
        ),
        remedies=(
            Remedy("Go back to the last checkpoint", 'model.load_state_dict(torch.load("last_good.pt"))'),
            Remedy("Guard the run from its first step", GUARD_CODE),
            Remedy("Keep the weights in float32", "model.float()"),
        ),
        verify="all(torch.isfinite(p).all() for p in model.parameters()) holds before training goes on.",
        reference="Micikevicius et al., Mixed precision training, 2018, arXiv:1710.03740, section 3.1",
    ),
    Entry(
        kind="optimizer_state_corrupt",
        title="Optimizer state out of bounds",
        meaning="The optimizer moved the weights farther than its formula allows, or what it stores holds a NaN or an Inf: "
        "its moments are broken.",
        causes=(
            "A moment was ruined by an earlier overflow, a bit flip, or a checkpoint of another model.",
            "Half-precision moments: the second one was rounded to 0 and the quotient exploded.",
            "Moments of a parameter that was replaced were kept.",
        ),
        remedies=(
            Remedy("Start the optimizer's state anew", "optimizer.state.clear()"),
            Remedy(
                "Load the last healthy checkpoint", 'optimizer.load_state_dict(torch.load("last_good.pt"))'
            ),
            Remedy(
                "Enlarge epsilon where moments are in half precision", "torch.optim.AdamW(params, eps=1e-4)"
            ),
        ),
        verify="No step is longer than the optimizer's bound, and the state's tensors are finite.",
        reference="Kingma and Ba, Adam, 2015, arXiv:1412.6980, section 2.1 (bound of the step)",
    ),
)
