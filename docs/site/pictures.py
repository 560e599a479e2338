"""The pictures of the documentation, each from a real run: ``python docs/site/pictures.py``.

They are kept in ``docs/pictures``; each has its text alternative beside it, ``NAME.txt``.
"""

from __future__ import annotations

import os
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor, nn

import steadygrad as sg

FOLDER = Path(__file__).parents[1] / "pictures"
REPRODUCTIONS = FOLDER.parent / "reproductions"
# Okabe and Ito's colours: told apart by everybody, and in grey too where line styles differ.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"


@contextmanager
def picture(name: str, alt: str, width: float = 6.4, height: float = 3.0, columns: int = 1) -> Iterator[Any]:
    """A figure that is saved at the end, with its text alternative."""
    figure, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained")
    yield axes
    for one in figure.axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(visible=True, axis="y", alpha=0.25)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    (FOLDER / f"{name}.txt").write_text(alt + "\n", encoding="utf-8")


def main() -> None:
    """Draw them all."""
    FOLDER.mkdir(exist_ok=True)
    os.environ["STEADYGRAD_QUIET"] = "1"
    mpl.rcParams.update({"svg.hashsalt": "steadygrad", "font.size": 9, "legend.frameon": False})
    through_time()
    through_depth()
    transformer()
    for kind in ("exploding_gradient", "loss_spike", "divergence", "clip_is_step_limiter"):
        course(kind)
    for kind in ("exploding_in_time", "vanishing_in_time"):
        in_time(kind)
    vanishing()
    from answer_pictures import draw  # noqa: PLC0415 - which draws with what stands here

    draw()


def reproduction(kind: str) -> dict[str, Any]:
    """What a reproduction leaves behind."""
    return runpy.run_path(str(REPRODUCTIONS / f"{kind}.py"))


class Recurrent(nn.Module):
    """A linear-ish RNN of a given spectral radius, read at its last step."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(4, 64, batch_first=True), nn.Linear(64, 1)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=radius)
        nn.init.zeros_(self.rnn.bias_ih_l0)
        nn.init.zeros_(self.rnn.bias_hh_l0)

    def forward(self, x: Tensor) -> Tensor:
        """One number a sequence."""
        read: Tensor = self.out(self.rnn(x)[0][:, -1])
        return read


def gradient_through_time(model: nn.Module, x: Tensor) -> list[float]:
    """Norm of the gradient with respect to each time step of the input, the last step first."""
    x = x.detach().requires_grad_()
    model(x).square().mean().backward()
    assert x.grad is not None
    norms: list[float] = x.grad.norm(dim=(0, 2)).flip(0).tolist()
    return norms


def through_time() -> None:
    """The product of the chain rule through a hundred time steps."""
    alt = (
        "Norm of the gradient against steps back in time on a log axis. At a spectral radius of 0.8 it falls "
        "to a billionth within a hundred steps, at 1.0 it stays, at 1.15 it grows a millionfold."
    )
    with picture("through_time", alt) as axes:
        for radius, colour, style in ((1.15, RED, "-"), (1.0, GREEN, "--"), (0.8, BLUE, ":")):
            torch.manual_seed(0)
            norms = gradient_through_time(Recurrent(radius), 1e-9 * torch.randn(8, 100, 4))
            axes.semilogy([n / norms[0] for n in norms], style, color=colour, label=f"radius {radius}", lw=2)
        axes.set(xlabel="time steps back from the loss", ylabel="gradient / gradient at the last step")
        axes.legend()


def through_depth() -> None:
    """The same product through forty plain convolutions on real digits."""
    alt = (
        "Norm of the gradient at each layer's output in a plain network of 40 convolutions, from the loss back, "
        "on a log axis: with weights 1.4 times He's it grows ten-thousandfold, with He's it falls slowly, with "
        "weights 0.7 times He's it vanishes."
    )
    from sklearn.datasets import load_digits  # noqa: PLC0415 - only this picture needs it

    digits = load_digits()
    x = torch.tensor(digits.images[:64], dtype=torch.float32).unsqueeze(1) / 16.0
    y = torch.tensor(digits.target[:64])
    with picture("through_depth", alt) as axes:
        for gain, colour, style in ((1.4, RED, "-"), (1.0, GREEN, "--"), (0.7, BLUE, ":")):
            norms = _gradients_by_layer(gain, x, y)
            axes.semilogy(range(len(norms)), norms, style, color=colour, label=f"{gain:g} x He", lw=2)
        axes.set(xlabel="layers back from the loss", ylabel="gradient / gradient at the last layer")
        axes.legend()


def _gradients_by_layer(gain: float, x: Tensor, y: Tensor) -> list[float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    outputs = []
    for depth in range(40):
        conv = nn.Conv2d(16 if depth else 1, 16, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        conv.weight.data *= gain
        x = conv(x).relu()
        x.retain_grad()
        outputs.append(x)
    nn.functional.cross_entropy(model(x / x.detach().std()), y).backward()
    norms = [float(one.grad.norm()) for one in reversed(outputs) if one.grad is not None]
    return [norm / norms[0] for norm in norms]


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def transformer() -> None:
    """A small transformer at a rate that is too high, plain and guarded."""
    alt = (
        "Loss and total gradient norm of a small transformer against steps, twice at the same high learning "
        "rate. Plain training ends in NaN; under sg.guard the loss goes on falling."
    )
    with picture("transformer", alt, columns=2) as (left, right):
        for guarded, colour, style in ((False, RED, "-"), (True, BLUE, "-")):
            losses, norms = _train_transformer(guarded=guarded)
            label = "sg.guard" if guarded else "plain"
            left.plot(losses, style, color=colour, label=label, lw=1.5)
            right.semilogy(norms, style, color=colour, label=label, lw=1.5)
        left.set(xlabel="step", ylabel="loss", yscale="log", ylim=(1.5, 300))
        right.set(xlabel="step", ylabel="total gradient norm")
        left.legend()


def _train_transformer(*, guarded: bool) -> tuple[list[float], list[float]]:
    from pydoc_data.topics import topics  # noqa: PLC0415 - half a megabyte of text

    torch.manual_seed(0)
    text = torch.tensor(list("\n".join(topics.values()).encode("ascii", "ignore")[:200_000]))
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.Embedding(128, 64), nn.TransformerEncoder(layer, 4), nn.Linear(64, 128))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    monitor = (sg.guard if guarded else sg.watch)(model, optimizer)
    losses, norms = [], []
    for _ in range(250):
        places = torch.randint(len(text) - 33, (16, 1)) + torch.arange(33)
        batch = text[places]
        scores = model(batch[:, :-1])
        loss = nn.functional.cross_entropy(scores.reshape(-1, 128), batch[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        monitor.log(loss=loss)
        optimizer.step()
        losses.append(float(loss.detach()))
        assert monitor.last is not None
        norms.append(monitor.last.total_norm)
    monitor.close()
    return losses, norms


def course(kind: str) -> None:
    """Total norm, and loss where it was logged, of a reproduction; the finding is marked."""
    left = reproduction(kind)
    monitor = left.get("monitor") or left["guard"]
    finding = next(one for one in monitor.findings if one.kind == kind)
    steps = [reading.step for reading in monitor.recent]
    losses = [reading.loss for reading in monitor.recent]
    told = f"Found at step {finding.step}: {finding.summary}"
    logged = losses[-1] is not None
    with picture(kind, f"The course of the run below. {told}", columns=1 + logged) as axes:
        first: Axes = axes[0] if logged else axes
        first.semilogy(steps, [reading.total_norm for reading in monitor.recent], color=BLUE, lw=1.5)
        caps = [reading.cap for reading in monitor.recent]
        if caps[-1] is not None:
            first.semilogy(steps, caps, "--", color=ORANGE, label="cap")
            first.legend()
        first.set(xlabel="step", ylabel="total gradient norm")
        if logged:
            axes[1].semilogy(steps, losses, color=GREEN, lw=1.5)
            axes[1].set(xlabel="step", ylabel="loss")
        for one in axes if logged else [axes]:
            one.axvline(finding.step, color=RED, lw=1, ls=":")


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
    weights = [i for i, name in enumerate(_names(model)) if name.endswith("weight")]
    norms = [float(monitor.last.norms[i]) for i in reversed(weights)]
    alt = "Gradient norm of each layer's weight, from the output back, on a log axis: a straight line downwards."
    with picture("vanishing_gradient", alt) as axes:
        axes.semilogy(norms, "o-", color=BLUE, lw=1.5)
        axes.set(xlabel="layers back from the loss", ylabel="gradient norm of the weight")


if __name__ == "__main__":
    main()
