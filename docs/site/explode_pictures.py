"""Pictures of what explodes and why: through time, through depth, and in a transformer."""

from __future__ import annotations

import torch
from forms import BLUE, GREEN, RED, key, picture
from torch import Tensor, nn

import steadygrad as sg


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
        axes.set(xlabel="time steps back from the loss", ylabel="gradient, last step = 1")
        key(axes)


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
        axes.set(xlabel="layers back from the loss", ylabel="gradient, last layer = 1")
        key(axes)


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
        key(left)


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


PICTURES = {drawn.__name__: drawn for drawn in (through_time, through_depth, transformer)}
