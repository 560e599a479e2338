"""Sound trainings that look as if something were wrong; networks and losses that no other family has."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adagrad, Adam, Adamax, RMSprop

from benchmarks.faults.afresh_data import blots, clouds, documents, photograph, ratings, speech, survival
from benchmarks.faults.afresh_models import (
    Factors,
    Listener,
    PictureCode,
    PointNet,
    Signed,
    Sines,
    UNet,
    in_order,
    partial_likelihood,
    picture_elbo,
    spelled,
)
from benchmarks.faults.case import healthy
from benchmarks.faults.data import drawn
from benchmarks.faults.losses import cross_entropy, squared
from benchmarks.faults.models import mlp
from benchmarks.faults.training import Training

FAMILY = "healthy afresh"


@healthy(FAMILY)
def few_points_that_decide() -> Training:
    """The largest of each feature comes from one point, so most points get no gradient; and a rate high for Adagrad."""
    model = PointNet()
    return Training(model, Adagrad(model.parameters(), 2e-2), drawn(clouds()), cross_entropy)


@healthy(FAMILY)
def tastes_at_rate_five() -> Training:
    """A mean over the batch leaves each row a hundredth of its gradient: the rate makes up for it."""
    model = Factors(8)
    for table in (model.person, model.film):
        nn.init.normal_(table.weight, std=0.3)
    for table in (model.lenient, model.good):
        nn.init.zeros_(table.weight)
    return Training(model, SGD(model.parameters(), 5.0), drawn(ratings(), 128), squared)


@healthy(FAMILY)
def sines_of_a_high_frequency() -> Training:
    """Weights of a hundredth behind a factor of thirty, at each layer."""
    model = Sines(started=True)
    return Training(model, Adam(model.parameters(), 1e-3), drawn(photograph(), 256), squared)


@healthy(FAMILY, steps=200)
def letters_that_are_all_blank_at_first() -> Training:
    """CTC begins at ten times what it soon gets by saying nothing, and waits there."""
    model = Listener()
    return Training(model, Adam(model.parameters(), 1e-2), drawn(speech()), spelled)


@healthy(FAMILY)
def few_events_at_a_time() -> Training:
    """Eight patients a batch, and in some nobody had the event."""
    model = mlp([8, 24, 1], nn.SiLU)
    return Training(model, RMSprop(model.parameters(), 2e-3), drawn(survival(), 8), partial_likelihood)


@healthy(FAMILY)
def masks_that_are_nearly_all_background() -> Training:
    """Focal loss (Lin et al. 2017): from a head that expects nothing, so the loss begins at next to nothing."""
    model = UNet()
    nn.init.constant_(model.mask.bias, -2.2)

    def loss(out: Tensor, mask: Tensor) -> Tensor:
        right = torch.where(mask > 0.5, out, -out)
        share = torch.where(mask > 0.5, 0.75, 0.25)
        return -(share * torch.sigmoid(-right) ** 2 * F.logsigmoid(right)).mean()

    return Training(model, Adam(model.parameters(), 3e-3), drawn(blots(), 16), loss)


@healthy(FAMILY)
def ranking_by_weights_that_are_signs() -> Training:
    """Steps too small to turn a sign change nothing at all, and others turn many at once."""
    model = nn.Sequential(
        *(nn.Linear(10, 48), nn.Hardtanh(), Signed(48, 48), nn.Hardtanh(), Signed(48, 48), nn.Hardtanh()),
        nn.Linear(48, 1),
    )
    return Training(model, Adamax(model.parameters(), 1e-2), drawn(documents()), in_order)


@healthy(FAMILY, steps=200)
def divergence_that_is_let_in_slowly() -> Training:
    """The weight of the second term grows from 0 (Bowman et al. 2016), and with it the loss."""
    pictures, _ = blots()
    model = PictureCode()
    weight = [0.0]

    def before(step: int) -> None:
        weight[0] = min(0.2, step / 500)

    def loss(out: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        return picture_elbo(out, x, weight[0])

    return Training(model, Adam(model.parameters(), 3e-3), drawn((pictures, pictures)), loss, before)
