"""Faults of the wiring: loss, parameters and optimizer aren't connected as they should be."""

from __future__ import annotations

from steadygrad.catalog.entry import Entry
from steadygrad.records import Remedy

ENTRIES: tuple[Entry, ...] = (
    Entry(
        kind="disconnected_loss",
        title="Loss not connected to the parameters",
        meaning="No parameter received a gradient, so clipping and the optimizer step did nothing.",
        causes=(
            "The loss wasn't computed from the model's output (a constant, or another model).",
            "The output was cut off from the graph by .detach(), .item(), .numpy() or torch.tensor(...).",
            "The forward pass ran under torch.no_grad() or torch.inference_mode().",
            "backward() wasn't called before step(), or zero_grad() stood between the two.",
        ),
        remedies=(
            Remedy("Compute the loss from the model's output", "loss = loss_fn(model(inputs), targets)"),
            Remedy(
                "Check that the loss leads back to a parameter before calling backward()",
                "assert loss.grad_fn is not None",
            ),
            Remedy(
                "Keep this order in the loop",
                "optimizer.zero_grad(); loss = loss_fn(model(inputs), targets); loss.backward(); "
                "optimizer.step()",
            ),
        ),
        verify="After one backward pass every trainable parameter has a gradient: all(p.grad is not "
        "None for p in model.parameters()).",
        reference="https://docs.pytorch.org/docs/stable/notes/autograd.html",
    ),
    Entry(
        kind="disconnected_parameters",
        title="Parameters without a gradient",
        meaning="Some parameters never receive a gradient while others do, so they stay as initialised.",
        causes=(
            "The module is built in __init__ but not used in forward().",
            "A .detach() or torch.no_grad() inside forward() cuts off everything before it.",
            "Only another task or branch of the model uses them.",
        ),
        remedies=(
            Remedy("Use the module in forward(), or remove it from the model"),
            Remedy(
                "Find the cut: the graph ends at the first module whose output doesn't require a gradient",
                "for name, m in model.named_modules(): m.register_forward_hook("
                "lambda _, i, out, name=name: print(name, getattr(out, 'requires_grad', None)))",
            ),
            Remedy("If they are meant to stay fixed, say so", "parameter.requires_grad_(False)"),
        ),
        verify="The named parameters have a gradient after one backward pass, or requires_grad is "
        "False for them.",
        reference="https://docs.pytorch.org/docs/stable/notes/autograd.html"
        "#locally-disabling-gradient-computation",
    ),
    Entry(
        kind="stale_optimizer",
        title="Optimizer holds other tensors than the model",
        meaning="The optimizer updates tensors that the model doesn't use, so the model doesn't learn.",
        causes=(
            (
                "The optimizer was built before the model's parameters were replaced "
                "(a copy, a new head, quantization, a wrapper)."
            ),
            "The optimizer was built from another instance of the model.",
            "A layer was replaced after the optimizer had been built.",
        ),
        remedies=(
            Remedy(
                "Build the optimizer after the last change to the model",
                "optimizer = torch.optim.AdamW(model.parameters(), lr=lr)",
            ),
            Remedy(
                "Hand layers that come later to the optimizer",
                'optimizer.add_param_group({"params": model.head.parameters()})',
            ),
            Remedy(
                "Load weights in place instead of replacing the parameters", "model.load_state_dict(state)"
            ),
        ),
        verify="Every trainable parameter of the model is in optimizer.param_groups, and its value "
        "changes in a step.",
        reference="https://docs.pytorch.org/docs/stable/optim.html#constructing-it",
    ),
    Entry(
        kind="missing_zero_grad",
        title="Gradients are never cleared",
        meaning="Each backward pass adds to the gradients of all earlier steps.",
        causes=(
            "zero_grad() isn't called between two steps.",
            "zero_grad() is called on another optimizer or model.",
            "Gradient accumulation forgets to clear the gradients after its step.",
        ),
        remedies=(
            Remedy(
                "Clear the gradients once a step, before backward()",
                "optimizer.zero_grad(); loss.backward(); optimizer.step()",
            ),
            Remedy(
                "With gradient accumulation, clear them right after the step",
                "if (i + 1) % grad_accum_steps == 0: optimizer.step(); optimizer.zero_grad()",
            ),
        ),
        verify="With the same batch twice in a row, both steps show the same total norm.",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html",
    ),
)
