"""Faults in networks, data and optimizers that no other family has; written before anything was tuned on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adadelta, Adam, AdamW, NAdam, RMSprop

from benchmarks.faults.case import faulty
from benchmarks.faults.data import drawn, whole
from benchmarks.faults.fresh_models import (
    AttentionPool,
    BagOfWords,
    Forecaster,
    GraphNet,
    GroupNormNet,
    Lion,
    Mixer,
    Variational,
    bags,
    contrast,
    elbo,
    handwriting,
    inverse,
    mixture_loss,
    notes,
    patients,
    seasons,
    tumours,
    two_views,
    wines,
)
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import filled, mlp
from benchmarks.faults.training import Training

TOO_HIGH = ("learning_rate_too_high", "exploding_gradient", "divergence", "oversized_update")


@faulty("fresh", *TOO_HIGH, "loss_spike", at=0, sudden=True, curable=True)
def group_norm_at_rate_five() -> Training:
    model = GroupNormNet()
    return Training(model, SGD(model.parameters(), 5.0, momentum=0.9), drawn(handwriting()), cross_entropy)


@faulty(
    "fresh",
    "unnormalised_input",
    "unscaled_targets",
    "exploding_gradient",
    "saturated_units",
    at=0,
    curable=True,
)
def series_in_its_own_units() -> Training:
    """Passengers, not thousands of them."""
    model = Forecaster()
    x, y = seasons()
    return Training(model, Adam(model.parameters(), 1e-3), drawn((3e4 + 8e3 * x, 3e4 + 8e3 * y)), squared)


@faulty("fresh", "disconnected_parameters", at=0, place=("bag",))
def embeddings_left_out_of_the_optimizer() -> Training:
    model = BagOfWords()
    return Training(model, Adam(model.head.parameters(), 1e-2), drawn(notes()), cross_entropy)


@faulty("fresh", "output_range_mismatch", at=0)
def autoencoder_of_standardised_data_behind_a_sigmoid() -> Training:
    inputs, _ = wines()
    model = mlp([13, 24, 4, 24, 13], nn.GELU, nn.Sigmoid())
    return Training(model, AdamW(model.parameters(), 3e-3), drawn((inputs, inputs)), squared)


@faulty("fresh", "nonfinite_loss", "nonfinite_activation", at=30, nonfinite=True)
def direction_of_a_blank_picture() -> Training:
    """Embeddings brought to unit length by hand; a blank picture's is 0."""
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 48, bias=False), nn.ReLU(), nn.Linear(48, 16, bias=False)
    )

    def loss(out: Tensor, _: Tensor) -> Tensor:
        one, other = out.chunk(2)
        return contrast(one / one.norm(dim=1, keepdim=True), other / other.norm(dim=1, keepdim=True))

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(handwriting())(step)
        views = torch.cat([x, x.roll(1, -1)])
        views[3] *= 0.0 if step == 30 else 1.0
        return views, y

    return Training(model, Adam(model.parameters(), 1e-3), batches, loss)


@faulty("fresh", "nonfinite_activation", at=25, nonfinite=True)
def empty_bag_under_a_mask() -> Training:
    model = AttentionPool()

    def batches(step: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        x, y = drawn(bags())(step)
        absent = torch.zeros(x.shape[:2], dtype=torch.bool)
        absent[:, 9:] = True
        absent[5] |= step == 25
        return (x, absent), y

    return Training(model, Adam(model.parameters(), 2e-3), batches, cross_entropy)


class _Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator, self.judge = mlp([4, 24, 2], nn.SiLU), mlp([2, 24, 1], nn.SiLU)

    def forward(self, noise: Tensor) -> Tensor:
        return self.judge(self.generator(noise).detach())


def _cut_in_two(training: Training, step: int) -> Tensor:
    model, (one, other) = training.model, training.optimizers
    real, _ = training.batches(step)
    other.zero_grad()
    noise = torch.randn(len(real), 4)
    (F.relu(1 - model.judge(real)).mean() + F.relu(1 + model(noise)).mean()).backward()
    other.step()
    one.zero_grad()
    loss = -model(noise).mean()
    loss.backward()
    one.step()
    return loss.detach()


@faulty("fresh", "disconnected_loss", "disconnected_parameters", at=0, checked=False)
def generator_behind_a_detach() -> Training:
    model = _Pair()
    optimizers = [Adam(model.generator.parameters(), 1e-3), Adam(model.judge.parameters(), 1e-3)]
    x, y = inverse()
    return Training(model, optimizers, drawn((torch.cat([x, y], 1), y)), squared, loop=_cut_in_two)


class _TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 32), nn.ELU())
        self.kind, self.amount = (
            nn.Linear(32, 3),
            nn.Sequential(nn.Linear(32, 16), nn.ELU(), nn.Linear(16, 1)),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.kind(h), self.amount(h)


@faulty("fresh", "disconnected_parameters", at=0, place=("amount",))
def second_loss_never_added() -> Training:
    """Both losses are computed, and one of them reads the first head's output."""
    model = _TwoHeads()

    def loss(out: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        kind, _ = out
        return cross_entropy(kind, labels) + 0.3 * squared(kind[:, :1], labels[:, None].float() - 1)

    return Training(model, Adam(model.parameters(), 3e-3), drawn(wines()), loss)


@faulty(
    "fresh",
    *TOO_HIGH,
    "nonfinite_loss",
    "nonfinite_gradient",
    "nonfinite_activation",
    "loss_spike",
    curable=True,
)
def mixture_whose_spread_runs_away() -> Training:
    model = mlp([1, 24, 9], nn.Tanh)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return mixture_loss(out, y, 0.0)

    return Training(model, SGD(model.parameters(), 0.5, momentum=0.9), drawn(inverse()), loss)


@faulty("fresh", "nonfinite_gradient", at=0, nonfinite=True)
def distance_of_twins() -> Training:
    """A Siamese pair that is one and the same picture: the root of the squared distance has no slope at 0."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.SELU(), nn.Linear(32, 8))

    def loss(out: Tensor, labels: Tensor) -> Tensor:
        distance = (out - out[labels.argsort()]).square().sum(1).sqrt()
        same = labels == labels[labels.argsort()]
        return torch.where(same, distance.square(), F.relu(1 - distance).square()).mean()

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(handwriting())(step)
        order = y.argsort()
        return x[order], y[order]

    return Training(model, Adam(model.parameters(), 1e-3), batches, loss)


@faulty("fresh", "exploding_gradient", "learning_rate_too_high", at=0, sudden=True, curable=True)
def mixer_without_norm_from_wide_weights() -> Training:
    model = filled(Mixer(10, normalised=False), lambda w: nn.init.trunc_normal_(w, std=0.4))
    return Training(model, SGD(model.parameters(), 0.01, momentum=0.9), drawn(handwriting()), cross_entropy)


@faulty("fresh", "vanishing_gradient", at=0, curable=True)
def sixteen_small_convolutions_over_time() -> Training:
    layers: list[nn.Module] = [nn.Conv1d(1, 12, 3, padding=1)]
    for _ in range(16):
        conv = nn.Conv1d(12, 12, 3, padding=1)
        nn.init.normal_(conv.weight, std=0.03)
        layers += [nn.Tanh(), conv]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(12, 1))
    x, y = seasons()
    return Training(model, Adam(model.parameters(), 1e-3), drawn((x.transpose(1, 2), y)), squared)


@faulty("fresh", *TOO_HIGH, "dead_units", "saturated_units", "loss_spike", at=0, curable=True)
def attention_by_rmsprop_at_rate_one() -> Training:
    model = AttentionPool()
    return Training(model, RMSprop(model.parameters(), 1.0), drawn(bags()), cross_entropy)


@faulty("fresh", *TOO_HIGH, "dead_units", "loss_spike", at=0, curable=True)
def lion_at_the_rate_of_sgd() -> Training:
    model = GroupNormNet()
    return Training(model, Lion(model.parameters(), 0.3), drawn(handwriting()), cross_entropy)


@faulty(
    "fresh",
    *("optimizer_state_corrupt", "oversized_update", "divergence", "exploding_gradient", "loss_spike"),
    at=50,
    sudden=True,
)
def bit_flipped_in_a_momentum() -> Training:
    model = mlp([10, 32, 32, 1], nn.SiLU)
    optimizer = SGD(model.parameters(), 0.02, momentum=0.9)

    def before(step: int) -> None:
        if step == 50:
            optimizer.state[model[2].weight]["momentum_buffer"][3, 5] = 1e5

    return Training(model, optimizer, drawn(patients()), squared, before)


@faulty("fresh", "vanishing_gradient", "stalled_update", at=0, curable=True)
def small_loss_in_float16() -> Training:
    """A mean over many outputs, weighted by a millionth: the gradients are 0 in float16."""
    model = mlp([30, 32, 2], nn.SiLU).half()
    inputs, labels = tumours()

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return 1e-6 * cross_entropy(out.float(), y)

    return Training(model, AdamW(model.parameters(), 1e-3, eps=1e-4), drawn((inputs.half(), labels)), loss)


@faulty(
    "fresh",
    *("unnormalised_input", "nonfinite_loss", "nonfinite_activation", "exploding_gradient"),
    at=0,
    nonfinite=True,
    curable=True,
)
def code_of_raw_measurements() -> Training:
    inputs, _ = wines(raw=True)
    model = Variational(13)
    return Training(model, Adam(model.parameters(), 1e-3), drawn((inputs, inputs)), elbo)


@faulty("fresh", "exploding_gradient", at=0, curable=True)
def messages_summed_over_sixty_neighbours() -> Training:
    model = GraphNet(6, averaged=False)
    return Training(model, Adam(model.parameters(), 3e-3), whole(tumours()), cross_entropy)


class _Detour(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = GroupNormNet(12, 2), nn.Sequential(nn.SiLU(), nn.Linear(10, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.from_numpy(self.encoder(x).detach().numpy().copy()))


@faulty("fresh", "disconnected_parameters", at=0, place=("encoder",))
def encoder_behind_numpy() -> Training:
    model = _Detour()
    return Training(model, NAdam(model.parameters(), 2e-3), drawn(handwriting()), cross_entropy)


@faulty("fresh", *TOO_HIGH, "loss_spike", curable=False, steps=120)
def rate_that_grows_instead_of_decaying() -> Training:
    """A decay of 1.1 a step where 0.99 was meant."""
    model = Forecaster(layers=2)
    optimizer = Adam(model.parameters(), 1e-4)

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 1e-4 * 1.1**step

    return Training(model, optimizer, drawn(seasons()), squared, before)


@faulty("fresh", "output_range_mismatch", at=0)
def probabilities_where_logarithms_are_asked() -> Training:
    """Distillation: ``kl_div`` takes log-probabilities."""
    model = mlp([64, 48, 10], nn.SiLU, nn.Softmax(-1))
    x, y = handwriting()
    taught = F.one_hot(y, 10) * 0.9 + 0.01

    def loss(out: Tensor, teacher: Tensor) -> Tensor:
        return F.kl_div(out, teacher, reduction="batchmean")

    return Training(model, Adam(model.parameters(), 1e-3), drawn((x.flatten(1), taught)), loss)


@faulty("fresh", "vanishing_gradient", "dead_units", "stalled_update", at=0, curable=True)
def everything_begins_at_zero() -> Training:
    model = filled(mlp([10, 32, 32, 1], nn.Tanh), nn.init.zeros_)
    return Training(model, Adadelta(model.parameters(), 1.0), drawn(patients()), squared)


@faulty(
    "fresh",
    *TOO_HIGH,
    "sharp_softmax",
    "nonfinite_loss",
    "nonfinite_activation",
    curable=True,
    sudden=True,
    at=0,
)
def views_at_a_temperature_near_zero() -> Training:
    """InfoNCE divided by a temperature of 1e-4, by SGD at an ordinary rate."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))

    def loss(out: Tensor, _: Tensor) -> Tensor:
        one, other = out.chunk(2)
        return contrast(one, other, 1e-4)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = drawn(handwriting())(step)
        return torch.cat(two_views(x, step)), y

    return Training(model, SGD(model.parameters(), 0.05, momentum=0.9), batches, loss)
