"""The course of the loss and the size of the steps."""

from __future__ import annotations

from steadygrad.catalog.entry import GUARD_CODE, Entry
from steadygrad.records import Remedy

_LOWER = Remedy("Lower the learning rate", 'optimizer.param_groups[0]["lr"] /= 10')
_WARM_UP = Remedy(
    "Warm the learning rate up",
    "torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=200)",
)
_GUARD = Remedy("Bound each step relative to the weights", GUARD_CODE)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        kind="loss_spike",
        title="Spike of the loss",
        meaning="The loss jumped far above its recent course.",
        causes=(
            "A batch unlike the others: wrong labels, an outlier, one long or empty example.",
            "The learning rate is at the edge of what is stable.",
            "Adam's second moment had forgotten how large gradients can be (beta2 near 1, rare features).",
        ),
        remedies=(
            _GUARD,
            Remedy("Look at the batch of that step", "batches = list(loader)"),
            Remedy("Shorten Adam's memory", "torch.optim.AdamW(params, betas=(0.9, 0.95))"),
            _LOWER,
        ),
        verify="The same steps, run again, pass without it, and the loss is back at its course.",
        reference="Wortsman et al., Small-scale proxies for large-scale transformer training instabilities, 2023, "
        "arXiv:2309.14322; Lewkowycz et al., The large learning rate phase, 2020, arXiv:2003.02218",
    ),
    Entry(
        kind="divergence",
        title="Divergence",
        meaning="The loss has left its course for good: it stays far above where it had come to.",
        causes=(
            "The learning rate is above what is stable.",
            "The sign is wrong: the loss is climbed, not descended.",
            "One huge step carried the weights away, and nothing brought them back.",
            "Gradients of earlier steps add up (zero_grad is missing).",
        ),
        remedies=(
            _LOWER,
            _GUARD,
            _WARM_UP,
            Remedy("Go back to the last checkpoint", 'model.load_state_dict(torch.load("last_good.pt"))'),
        ),
        verify="From the same start, the loss stays below where it began.",
        reference="Cohen et al., Gradient descent on neural networks typically occurs at the edge of stability, "
        "2021, arXiv:2103.00065",
    ),
    Entry(
        kind="learning_rate_too_high",
        title="Learning rate too high",
        meaning="The learning rate is beyond what the curvature of the loss, or the length of the weights, allows.",
        causes=(
            "The rate is above 2 / sharpness: each step overshoots the valley by more than it came from.",
            "No warm-up: the loss is sharpest at the start.",
            "The rate was chosen for another batch size, optimizer or scale of the loss.",
        ),
        remedies=(_LOWER, _WARM_UP, _GUARD),
        verify="The first 50 steps, run again with the lower rate, end below the first loss.",
        reference="Cohen et al., 2021, arXiv:2103.00065, section 2; for Adam: Cohen et al., 2022, arXiv:2207.14484",
    ),
    Entry(
        kind="oversized_update",
        title="Steps too large for the weights",
        meaning="A step moves a weight matrix by a large share of its own length.",
        causes=(
            "The learning rate is too high for these weights.",
            "An adaptive optimizer steps by about the learning rate in every element, however small the weights are.",
            "The gradient exploded, and nothing bounded the step.",
        ),
        remedies=(_LOWER, _GUARD, _WARM_UP),
        verify="The first steps move the weights by a hundredth of their length or less.",
        reference="You et al., LARS, 2017, arXiv:1708.03888, section 4; https://cs231n.github.io/neural-networks-3/#ratio",
    ),
    Entry(
        kind="stalled_update",
        title="Steps that change nothing",
        meaning="Gradients arrive, and the weights stay where they are.",
        causes=(
            "The step is smaller than the dtype can add to the weights (float16, bfloat16).",
            "The learning rate is 0 or next to it: a schedule that has run out, a parameter group without a rate.",
            "The optimizer holds other tensors than the model.",
            "A clip to a tiny norm has become the learning rate.",
        ),
        remedies=(
            Remedy(
                "Keep the weights in float32 and compute in half precision",
                'with torch.autocast("cuda"): loss = step()',
            ),
            Remedy(
                "Look at the rate that is used", 'print([group["lr"] for group in optimizer.param_groups])'
            ),
            Remedy("Raise the learning rate", 'optimizer.param_groups[0]["lr"] *= 10'),
        ),
        verify="A step changes the weights: compare a copy of one before and after optimizer.step().",
        reference="Micikevicius et al., Mixed precision training, 2018, arXiv:1710.03740, section 3.1",
    ),
    Entry(
        kind="constant_prediction",
        title="Stuck at the constant prediction",
        meaning="The loss stands where one and the same answer for every example would be (the entropy of the labels, the "
        "variance of the targets), although gradients flow.",
        causes=(
            "The output doesn't depend on the input: dead or saturated units, a mean or a norm over the wrong dimension.",
            "A step that was too large has left the network where only its last bias still learns.",
            "Inputs and labels don't belong together: shuffled apart, off by one, or read from different files.",
            "There is nothing in the inputs that tells the targets.",
        ),
        remedies=(
            Remedy(
                "Learn one batch by heart: a sound model and data can",
                "print(steadygrad.check(model, batch, loss_fn, optimizer))",
            ),
            _LOWER,
            _WARM_UP,
            Remedy(
                "Look at inputs and labels side by side",
                "print(next(iter(loader)))",
            ),
        ),
        verify="Outputs differ from row to row, and the loss falls below that of the best constant.",
        reference="Karpathy, A Recipe for Training Neural Networks, 2019, https://karpathy.github.io/2019/04/25/recipe/",
    ),
)
