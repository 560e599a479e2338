"""Pictures of the course of a run, and of gradients through time and depth."""

from __future__ import annotations

from functools import partial

from explode_pictures import gradient_through_time
from forms import BLUE, GREEN, INK, RED, key, picture
from matplotlib.axes import Axes
from reruns import finding_of, reproduction


def course(kind: str) -> None:
    """Total norm, and loss where it was logged, of a reproduction; the finding is marked."""
    left = reproduction(kind)
    monitor = left.get("monitor") or left["guard"]
    finding = finding_of(left, kind)
    steps = [reading.step for reading in monitor.recent]
    losses = [reading.loss for reading in monitor.recent]
    told = f"Found at step {finding.step}: {finding.summary}"
    logged = losses[-1] is not None
    with picture(kind, f"The course of the run below. {told}", columns=1 + logged) as axes:
        first: Axes = axes[0] if logged else axes
        first.semilogy(steps, [reading.total_norm for reading in monitor.recent], color=BLUE, lw=1.5)
        caps = [reading.cap for reading in monitor.recent]
        if caps[-1] is not None:
            first.semilogy(steps, caps, "--", color=INK, label="cap")
        first.set(xlabel="step", ylabel="total gradient norm")
        if logged:
            axes[1].semilogy(steps, losses, color=GREEN, lw=1.5)
            axes[1].set(xlabel="step", ylabel="loss")
        for one in axes if logged else [axes]:
            one.axvline(finding.step, color=RED, lw=1.5, ls=":", label="found")
        key(first)


def in_time(kind: str) -> None:
    """Gradient by time step of a reproduction."""
    left = reproduction(kind)
    norms = gradient_through_time(left["model"], left["x"])
    gain = next(iter(left["checkup"].time_gain.values()))
    alt = (
        f"Gradient norm against steps back in time on a log axis: a straight line, x{gain:.2g} for each step."
    )
    with picture(kind, alt) as axes:
        axes.semilogy([max(norm, 1e-30) for norm in norms], color=RED if gain > 1 else BLUE, lw=2)
        axes.set(xlabel="time steps back from the loss", ylabel="gradient norm")


def vanishing() -> None:
    """Gradient by layer of the reproduction."""
    left = reproduction("vanishing_gradient")
    monitor, model = left["monitor"], left["model"]
    weights = [
        i for i, name in enumerate((name for name, _ in model.named_parameters())) if name.endswith("weight")
    ]
    norms = [float(monitor.last.norms[i]) for i in reversed(weights)]
    alt = "Gradient norm of each layer's weight, from the output back, on a log axis: a straight line downwards."
    with picture("vanishing_gradient", alt) as axes:
        axes.semilogy(norms, "o-", color=BLUE, lw=1.5)
        axes.set(xlabel="layers back from the loss", ylabel="gradient norm of the weight")


COURSES = ("exploding_gradient", "loss_spike", "divergence", "clip_is_step_limiter")
PICTURES = {kind: partial(course, kind) for kind in COURSES}
PICTURES |= {kind: partial(in_time, kind) for kind in ("exploding_in_time", "vanishing_in_time")}
PICTURES["vanishing_gradient"] = vanishing
