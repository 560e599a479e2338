"""Mistakes in networks, losses and data of which no other family has any; all of them can be cured.

Written when the rules and the remedies were there, by somebody who hadn't read the remedies; see RESULTS.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RMSprop

from benchmarks.faults.afresh_data import (
    blots,
    brainwaves,
    clouds,
    community,
    documents,
    photograph,
    phrases,
    ratings,
    reviews,
    speech,
    spirals,
    survival,
    tremors,
)
from benchmarks.faults.afresh_models import (
    Factors,
    GraphAttention,
    Integrated,
    Listener,
    PictureCode,
    PointNet,
    Sines,
    TextNet,
    Translator,
    UNet,
    VisionTransformer,
    brain_net,
    in_order,
    partial_likelihood_by_hand,
    picture_elbo,
    spelled_in_all,
    squeeze,
)
from benchmarks.faults.case import faulty
from benchmarks.faults.data import drawn, whole
from benchmarks.faults.losses import cross_entropy, of_letters, squared
from benchmarks.faults.models import Recurrent, filled, mlp
from benchmarks.faults.training import Training

FAMILY = "afresh"
TOO_HIGH = ("learning_rate_too_high", "exploding_gradient", "divergence", "oversized_update", "loss_spike")


@faulty(FAMILY, "unnormalised_input", "exploding_gradient", at=0, curable=True)
def laser_scan_in_national_coordinates() -> Training:
    """Eastings and northings in metres, as the surveyor's file has them."""
    points, kinds = clouds()
    model = PointNet()
    place = torch.tensor([432_180.0, 5_410_260.0, 312.0])
    return Training(model, Adagrad(model.parameters(), 1e-2), drawn((points + place, kinds)), cross_entropy)


@faulty(
    FAMILY,
    *("unnormalised_input", "vanishing_gradient", "stalled_update", "constant_prediction", "constant_input"),
    at=0,
    curable=True,
)
def brainwaves_in_volts() -> Training:
    """Twenty millionths of them."""
    signals, kinds = brainwaves()
    model = brain_net()
    return Training(model, Adam(model.parameters(), 1e-3), drawn((2e-5 * signals, kinds)), cross_entropy)


@faulty(
    FAMILY,
    "output_range_mismatch",
    "unnormalised_input",
    "unscaled_targets",
    "saturated_units",
    at=0,
    curable=True,
)
def bytes_drawn_by_a_sigmoid() -> Training:
    """Pictures from 0 to 255 in and out, of an autoencoder that ends in a sigmoid."""
    pictures = 255 * blots()[0]
    model = squeeze(nn.Sigmoid())
    return Training(model, Adamax(model.parameters(), 3e-3), drawn((pictures, pictures)), squared)


@faulty(
    FAMILY, "unnormalised_input", "nonfinite_loss", "nonfinite_activation", at=0, nonfinite=True, curable=True
)
def hazards_of_raw_blood_counts() -> Training:
    """Cox's likelihood as the books have it: the exponential of a risk in thousands is infinite."""
    inputs, seen = survival()
    model = mlp([8, 32, 1], nn.ReLU)
    counts = 6_000 + 1_500 * inputs
    return Training(
        model, RMSprop(model.parameters(), 3e-3), drawn((counts, seen), 64), partial_likelihood_by_hand
    )


@faulty(FAMILY, *TOO_HIGH, at=0, sudden=True, curable=True)
def translator_at_rate_twenty_without_its_clip() -> Training:
    """The rate of a known recipe of language models, whose clip at a quarter was left out."""
    phrase, answer = phrases()
    model = Translator()

    def batches(step: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        x, y = drawn((phrase, answer))(step)
        return (x, y), y

    return Training(model, SGD(model.parameters(), 20.0), batches, of_letters)


@faulty(FAMILY, "exploding_gradient", "learning_rate_too_high", "divergence", at=0, curable=True)
def masks_from_unit_normal_weights() -> Training:
    """``init.normal_`` with its defaults, applied to every convolution of a U-Net."""
    model = filled(UNet(), nn.init.normal_)
    return Training(
        model,
        SGD(model.parameters(), 0.01, momentum=0.9),
        drawn(blots(), 16),
        F.binary_cross_entropy_with_logits,
    )


@faulty(FAMILY, "vanishing_gradient", "stalled_update", "constant_prediction", at=0, curable=True)
def friends_from_weights_of_a_hundredth() -> Training:
    """The spread of a transformer's weights, and of the scores, in a graph network that has no norm."""
    features, labels, _ = community()
    model = filled(GraphAttention(), lambda w: nn.init.normal_(w, std=0.01))
    return Training(
        model,
        SGD(model.parameters(), 0.02, momentum=0.9, nesterov=True),
        whole((features, labels)),
        cross_entropy,
    )


@faulty(FAMILY, "stalled_update", at=0, curable=True)
def adadelta_at_the_rate_of_adam() -> Training:
    """A thousandth, which Keras has for its default, where the method's own rate is 1."""
    model = TextNet()
    return Training(model, Adadelta(model.parameters(), 1e-3), drawn(reviews()), cross_entropy)


@faulty(FAMILY, "stalled_update", at=0, curable=True)
def ranking_with_an_epsilon_of_one() -> Training:
    """The epsilon once advised for Inception, at the rate that goes with 1e-8."""
    model = mlp([10, 32, 32, 1], nn.Tanh)
    return Training(model, Adam(model.parameters(), 1e-3, eps=1.0), drawn(documents()), in_order)


@faulty(
    FAMILY,
    *(
        "nonfinite_activation",
        "nonfinite_loss",
        "nonfinite_gradient",
        "unnormalised_input",
        "unscaled_targets",
    ),
    at=0,
    nonfinite=True,
    curable=True,
)
def areas_in_pixels_in_float16() -> Training:
    """A squared error of areas in pixels of the full picture is beyond 65504."""
    pictures, masks = blots()
    areas = masks.sum((2, 3)) * 64
    model = VisionTransformer(outputs=1).half()
    return Training(
        model,
        AdamW(model.parameters(), 1e-3, eps=1e-4),
        drawn((pictures.half(), areas.half()), 16),
        squared,
    )


@faulty(FAMILY, "exploding_gradient", *TOO_HIGH, at=0, curable=True)
def sines_without_their_initialisation() -> Training:
    """A frequency of 30 before every sine, and the weights of an ordinary layer."""
    model = Sines(started=False)
    return Training(model, Adam(model.parameters(), 1e-3), drawn(photograph(), 256), squared)


@faulty(
    FAMILY,
    *("exploding_gradient", "learning_rate_too_high", "stalled_update", "sharp_softmax"),
    at=0,
    curable=True,
)
def ratings_from_embeddings_of_unit_spread() -> Training:
    """What `nn.Embedding` begins with: a product of two such rows spreads as the root of their width."""
    model = Factors(64)
    return Training(model, SGD(model.parameters(), 0.1), drawn(ratings(), 128), squared)


@faulty(FAMILY, *TOO_HIGH, "dead_units", at=0, sudden=True, curable=True)
def letters_heard_by_a_summed_loss() -> Training:
    """CTC summed over the batch, at the rate of a mean."""
    model = Listener()
    return Training(model, SGD(model.parameters(), 0.1, momentum=0.9), drawn(speech()), spelled_in_all)


@faulty(
    FAMILY,
    "exploding_gradient",
    "exploding_in_time",
    "learning_rate_too_high",
    "divergence",
    at=0,
    curable=True,
)
def euler_by_strides_of_one() -> Training:
    """Forty steps whose length was forgotten: it should have been a fortieth."""
    model = filled(Integrated(40, 1.0), nn.init.kaiming_normal_)
    return Training(model, NAdam(model.parameters(), 2e-3), drawn(spirals()), cross_entropy)


@faulty(
    FAMILY,
    *TOO_HIGH,
    "nonfinite_loss",
    "nonfinite_activation",
    "nonfinite_gradient",
    at=0,
    sudden=True,
    curable=True,
)
def code_of_pictures_at_rate_a_half() -> Training:
    pictures, _ = blots()
    model = PictureCode()
    return Training(model, AdamW(model.parameters(), 0.5), drawn((pictures, pictures)), picture_elbo)


@faulty(FAMILY, "unscaled_targets", at=0, curable=True)
def tremors_in_metres() -> Training:
    """Displacements of some millionths of a metre: what the network begins with is ten thousand times as large."""
    inputs, told = tremors()
    model = Recurrent(nn.LSTM(2, 32, batch_first=True), 1)
    return Training(model, Adam(model.parameters(), 3e-3), drawn((inputs, 2e-6 * told)), squared)
