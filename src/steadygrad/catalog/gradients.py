"""Faults of the gradient's size: too large, too small, or no number at all."""

from __future__ import annotations

from steadygrad.catalog.entry import GUARD_CODE, TRACE, Entry
from steadygrad.records import Remedy

ENTRIES: tuple[Entry, ...] = (
    Entry(
        kind="nonfinite_gradient",
        title="NaN or Inf in the gradient",
        meaning="A gradient holds a value that is no finite number; one step with it ruins the weights.",
        causes=(
            "The gradient grew until it overflowed (learning rate or initialisation too large).",
            (
                "An operation has no finite derivative at its input: sqrt(0), log(0), 0/0, norm of zeros, "
                "or a torch.where that hides one."
            ),
            "The batch holds a NaN or an Inf, or is empty where a mean is taken.",
            "A softmax row is masked completely, or a half-precision value passed 65504.",
        ),
        remedies=(
            TRACE,
            Remedy("Leave such steps out", GUARD_CODE),
            Remedy("Keep sqrt, log and division away from zero", "torch.sqrt(x + 1e-12)"),
            Remedy("Refuse broken batches", "assert all(torch.isfinite(x).all() for x in batch)"),
        ),
        verify="The same batch gives a finite loss and finite gradients, and steadygrad.trace(model, "
        "batch, loss_fn) returns None.",
        reference="https://docs.pytorch.org/docs/stable/notes/faq.html "
        "and Pascanu et al., 2013, arXiv:1211.5063, section 2",
    ),
    Entry(
        kind="exploding_gradient",
        title="Exploding gradient",
        meaning="The gradient grows from step to step far above its usual size.",
        causes=(
            "The learning rate is too large for the sharpness of the loss, or has no warm-up.",
            "The initialisation makes signals grow from layer to layer or from time step to time step.",
            "A few examples have huge inputs, targets or losses.",
            "Deep or recurrent layers without normalisation or residual scaling.",
        ),
        remedies=(
            Remedy(
                "Bound the step relative to the weights, without a number to tune",
                GUARD_CODE,
            ),
            Remedy(
                "Lower the learning rate and warm it up",
                "torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=200)",
            ),
            Remedy(
                "Clip the total norm before the step",
                "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)",
            ),
            Remedy(
                "Give the layers an initial gain near 1", "torch.nn.init.orthogonal_(layer.weight, gain=1.0)"
            ),
        ),
        verify="The total norm stays within a few times its usual size, and the loss goes on falling.",
        reference="Pascanu et al., On the difficulty of training recurrent neural networks, 2013, "
        "arXiv:1211.5063, sections 2 and 3.2",
    ),
    Entry(
        kind="vanishing_gradient",
        title="Vanishing gradient",
        meaning="Layers near the input receive so small a gradient that they hardly learn.",
        causes=(
            "Sigmoid or tanh units in a deep stack: each layer multiplies the gradient by less than 1.",
            "The initial weights are too small, so the signal dies on its way.",
            "ReLU units are dead: they output 0 for every input and pass no gradient.",
            "The output can't change: a softmax over one unit, or a saturated last activation.",
        ),
        remedies=(
            Remedy(
                "Give the layers an initial gain near 1", "torch.nn.init.orthogonal_(layer.weight, gain=1.0)"
            ),
            Remedy("Add a normalisation layer to each block", "nn.LayerNorm(dim)"),
            Remedy("Add residual connections", "x = x + block(x)"),
            Remedy("Replace sigmoid and tanh between layers", "nn.ReLU()"),
        ),
        verify="steadygrad.check(model, batch, loss_fn).gain_per_layer is near 1, and the first "
        "layers' weights move.",
        reference="Glorot and Bengio, Understanding the difficulty of training deep feedforward neural "
        "networks, AISTATS 2010, section 4; Pascanu et al., 2013, arXiv:1211.5063, section 2",
    ),
)
