"""Close to the rules of `benchmarks.faults.faulty.answers`, and healthy: what looks constant, unscaled or sure, and isn't."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adam

from benchmarks.faults.case import healthy
from benchmarks.faults.data import digits, drawn, sequences, table, text
from benchmarks.faults.faulty.answers import Attending
from benchmarks.faults.losses import cross_entropy, of_letters, squared
from benchmarks.faults.models import mlp
from benchmarks.faults.training import Training

FAMILY = "healthy border"


@healthy(FAMILY)
def targets_near_a_hundred() -> Training:
    inputs, targets = table()
    model = mlp([8, 64, 64, 1])
    return Training(model, Adam(model.parameters(), 1e-2), drawn((inputs, 50 * targets + 100)), squared)


@healthy(FAMILY)
def a_linear_model_of_raw_prices() -> Training:
    """Descent on one layer goes alike at any scale of its targets."""
    inputs, targets = table()
    model = nn.Linear(8, 1)
    return Training(model, SGD(model.parameters(), 0.1), drawn((inputs, 2e5 * targets + 3e5)), squared)


class InItsOwnUnit(nn.Module):
    """The output is multiplied by a fixed scale, and shifted."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.body, self.scale, self.shift = mlp([8, 32, 32, 1]), scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Numbers in the unit of the targets."""
        out: Tensor = self.body(x) * self.scale + self.shift
        return out


@healthy(FAMILY)
def corners_in_pixels_by_a_model_that_knows_the_size() -> Training:
    inputs, targets = table()
    model = InItsOwnUnit(640.0, 320.0)
    return Training(
        model, Adam(model.parameters(), 1e-2), drawn((inputs, 100 * targets + 320)), F.smooth_l1_loss
    )


@healthy(FAMILY)
def years_from_a_bias_at_their_mean() -> Training:
    inputs, targets = table()
    model = mlp([8, 32, 1])
    nn.init.constant_(model[-1].bias, 1990.0)  # type: ignore[arg-type]
    return Training(model, Adam(model.parameters(), 1e-2), drawn((inputs, 10 * targets + 1990)), squared)


def _rare(share: int) -> tuple[Tensor, Tensor]:
    inputs, _ = digits()
    return inputs + (torch.arange(len(inputs)) % share == 0)[:, None], (
        torch.arange(len(inputs)) % share == 0
    ).long()


@healthy(FAMILY)
def one_in_twenty() -> Training:
    model = mlp([64, 32, 2])
    return Training(model, Adam(model.parameters()), drawn(_rare(20)), cross_entropy)


@healthy(FAMILY)
def one_in_fifty_by_one_logit() -> Training:
    model = mlp([64, 32, 1])

    def loss(out: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(out[:, 0], labels.float())

    return Training(model, Adam(model.parameters()), drawn(_rare(50), 64), loss)


@healthy(FAMILY)
def words_of_which_most_are_absent() -> Training:
    generator = torch.Generator().manual_seed(11)
    inputs = (torch.rand(800, 400, generator=generator) < 0.01).float()
    labels = (inputs[:, :200].sum(1) > inputs[:, 200:].sum(1)).long()
    model = mlp([400, 32, 2])
    return Training(model, Adam(model.parameters(), 1e-2), drawn((inputs, labels)), cross_entropy)


class WithAMask(nn.Module):
    """A second input that is 0 everywhere, and a kind for each token that is always the same."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.kinds = nn.Embedding(20, 32), nn.Embedding(2, 32)
        self.extra, self.head = nn.Linear(4, 32), nn.Linear(32, 20)

    def forward(self, letters: Tensor) -> Tensor:
        """Scores of the next letter."""
        more = self.extra(torch.zeros(*letters.shape, 4))
        rows: Tensor = self.head(
            (self.letters(letters) + self.kinds(torch.zeros_like(letters)) + more).relu()
        )
        return rows


@healthy(FAMILY)
def a_condition_that_is_always_zero() -> Training:
    model = WithAMask()
    return Training(model, Adam(model.parameters(), 1e-2), drawn(text()), of_letters)


@healthy(FAMILY)
def attention_with_the_root_of_its_width() -> Training:
    model = Attending(256**-0.5)
    return Training(model, Adam(model.parameters(), 1e-3), drawn(sequences()), cross_entropy)


@healthy(FAMILY)
def attention_that_rests_on_its_first_position() -> Training:
    """As trained language models have it."""
    model = Attending(256**-0.5)
    plain = model.attention.forward

    def rest(x: Tensor) -> Tensor:
        scores = model.attention.query(x) @ model.attention.key(x).transpose(1, 2) / 16
        scores = scores + 8.0 * (torch.arange(x.shape[1]) == 0)
        out: Tensor = torch.softmax(scores, -1) @ model.attention.value(x) + 0.1 * plain(x)
        return out

    model.attention.forward = rest  # type: ignore[method-assign]
    return Training(model, Adam(model.parameters(), 1e-3), drawn(sequences()), cross_entropy)


@healthy(FAMILY)
def views_at_the_usual_temperature() -> Training:
    inputs, labels = digits()
    model = mlp([64, 64, 32])

    def loss(out: Tensor, _: Tensor) -> Tensor:
        one, other = F.normalize(out, dim=1).chunk(2)
        return F.cross_entropy(one @ other.T / 0.07, torch.arange(len(one)))

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn((inputs, labels))(step)
        noise = torch.Generator().manual_seed(step)
        return torch.cat([x + 0.1 * torch.randn(x.shape, generator=noise) for _ in range(2)]), y

    return Training(model, Adam(model.parameters()), batches, loss)


class Letters(nn.Module):
    """Several recurrent layers, which stand for long at the frequencies of the letters."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.letters, self.head = nn.Embedding(20, 32), nn.Linear(48, 20)
        self.rnn = nn.LSTM(32, 48, layers, batch_first=True)

    def forward(self, letters: Tensor) -> Tensor:
        """Scores of the next letter."""
        rows: Tensor = self.head(self.rnn(self.letters(letters))[0])
        return rows


@healthy(FAMILY, steps=700)
def four_recurrent_layers_that_wait_for_long() -> Training:
    model = Letters(4)
    return Training(model, SGD(model.parameters(), 0.2, momentum=0.9), drawn(text()), of_letters)


@healthy(FAMILY, steps=800)
def parity_that_waits_for_long() -> Training:
    generator = torch.Generator().manual_seed(12)
    bits = torch.randint(0, 2, (1000, 4), generator=generator).float()
    model = mlp([4, 64, 64, 2], nn.Tanh)
    return Training(
        model, SGD(model.parameters(), 0.1), drawn((2 * bits - 1, (bits.sum(1) % 2).long())), cross_entropy
    )


@healthy(FAMILY, steps=600)
def returns_of_which_next_to_nothing_can_be_told() -> Training:
    inputs, targets = table()
    noise = torch.Generator().manual_seed(13)
    model = mlp([8, 32, 1])
    returns = 0.1 * targets + torch.randn(targets.shape, generator=noise)
    return Training(model, Adam(model.parameters(), 1e-3), drawn((inputs, returns)), squared)


@healthy(FAMILY)
def a_head_that_begins_at_zero() -> Training:
    model = mlp([64, 64, 10])
    nn.init.zeros_(model[-1].weight)  # type: ignore[arg-type]
    nn.init.zeros_(model[-1].bias)  # type: ignore[arg-type]
    return Training(model, Adam(model.parameters()), drawn(digits()), cross_entropy)


@healthy(FAMILY)
def a_generator_that_wants_to_hear_one_answer() -> Training:
    """Its targets are all 1."""
    judge, model = mlp([16, 32, 1]), mlp([8, 32, 16])
    for param in judge.parameters():
        param.requires_grad_(False)

    def loss(out: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(judge(out), torch.ones_like(targets))

    return Training(model, Adam(model.parameters()), drawn(table(), 256), loss)


@healthy(FAMILY)
def heat_maps_that_are_nearly_all_zero() -> Training:
    inputs, targets = table()
    places = ((targets + 2.0) * 8).long().clamp(0, 31)
    model = mlp([8, 64, 32])
    maps = F.one_hot(places[:, 0], 32).float()
    return Training(model, Adam(model.parameters(), 1e-2), drawn((inputs, maps)), squared)
