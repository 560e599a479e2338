"""Trainings that need help: 23 of them, in families that share a cause."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.survival import data, faults, networks, scoring
from benchmarks.survival.workload import Batch, Workload, adamw, sgd

TAUGHT = (20, 64, 64, 10)


def unstable() -> list[Workload]:
    """All of them, the families in order."""
    return [*_recurrent(), *_deep(), *_rates(), *_data(), *_chips(), *_vision(), *_sparse()]


def _taught(name: str, family: str, **options: Any) -> Workload:
    """The teacher's task on a small network, unless ``options`` say otherwise."""
    plain: dict[str, Any] = {
        "build": partial(networks.mlp, *TAUGHT),
        "optimizer": sgd(),
        "batches": data.taught_batches(32),
        "loss": scoring.squared,
        "held_out": scoring.on_taught(),
        "guess": scoring.taught_guess(),
        "steps": 600,
    }
    return Workload(name, family, **{**plain, **options})


def _digits(name: str, family: str, **options: Any) -> Workload:
    """Digits on a small network, unless ``options`` say otherwise."""
    plain: dict[str, Any] = {
        "build": partial(networks.mlp, 64, 48, 48, 10),
        "optimizer": sgd(),
        "batches": data.digit_batches(32),
        "loss": scoring.cross_entropy,
        "held_out": scoring.on_digits(scoring.cross_entropy),
        "guess": scoring.DIGITS_GUESS,
        "steps": 300,
    }
    return Workload(name, family, **{**plain, **options})


def _text(name: str, family: str, length: int, rows: int, **options: Any) -> Workload:
    plain: dict[str, Any] = {
        "batches": data.text_batches(length, rows),
        "loss": scoring.cross_entropy,
        "held_out": scoring.on_text(length),
        "guess": data.unigram_entropy(),
        "steps": 160,
    }
    return Workload(name, family, **{**plain, **options})


def _recurrent() -> Iterator[Workload]:
    yield _text(
        "char_rnn",
        "recurrent",
        48,
        12,
        build=partial(networks.LetterNet, "rnn", 80, 1.2),
        optimizer=sgd(0.0),
        lr=1.0,
    )
    adding = scoring.on(data.adding(20, 512, data.gen(scoring.HELD_OUT_SEED)), scoring.squared)
    yield Workload(
        "adding_irnn", "recurrent", networks.IdentityRnn, sgd(), 0.02, _adding_batches, scoring.squared,
        adding, 1 / 6, 800,
    )  # fmt: skip
    yield _text(
        "char_lstm_sgd",
        "recurrent",
        40,
        12,
        build=partial(networks.LetterNet, "lstm", 48),
        optimizer=sgd(0.0),
        lr=6.0,
    )


def _adding_batches(generator: torch.Generator) -> Iterator[Batch]:
    while True:
        yield data.adding(20, 24, generator)


def _deep() -> Iterator[Workload]:
    wide = [20, *[48] * 20, 10]
    yield _taught("bad_init_mlp", "deep", build=partial(networks.mlp, *wide, gain=1.6), lr=0.01, steps=400)
    yield _digits("deep_cnn", "deep", build=partial(networks.cnn, 8, 12, gain=1.3), lr=0.03, steps=200)
    yield _taught(
        "residual_mlp", "deep", build=partial(networks.residual_mlp, 10, 48, 1.4), lr=0.01, steps=400
    )
    yield _digits(
        "residual_cnn",
        "deep",
        build=partial(networks.cnn, 8, 17, gain=0.9, residual=True),
        lr=0.03,
        steps=160,
    )


def _rates() -> Iterator[Workload]:
    yield _text(
        "transformer_adam",
        "rate",
        32,
        6,
        build=partial(networks.Transformer, pre_norm=False),
        optimizer=adamw(),
        lr=6e-3,
    )
    yield _text(
        "transformer_sgd",
        "rate",
        32,
        6,
        build=partial(networks.Transformer, pre_norm=True),
        optimizer=sgd(),
        lr=0.7,
    )
    bug = faults.between(200, 205, 100.0)
    yield _digits("rate_bug_sgd", "rate", lr=0.03, lr_at=bug, steps=400)
    yield _digits("rate_bug_adam", "rate", optimizer=adamw(), lr=2e-3, lr_at=bug, steps=400)
    yield _taught("level_shift", "rate", lr=0.01, loss_at=faults.from_step(300, 10.0), scaled=False)


def _data() -> Iterator[Workload]:
    yield _taught(
        "outliers_sgd", "data", lr=0.02, batches=data.taught_batches(16, faults.outlier_targets(0.01, 500.0))
    )
    yield _taught(
        "outliers_adam",
        "data",
        lr=3e-3,
        optimizer=adamw(0.01),
        batches=data.taught_batches(32, faults.outlier_targets(0.01, 150.0)),
    )
    yield _taught(
        "heavy_inputs", "data", lr=0.02, batches=data.taught_batches(32, faults.outlier_inputs(0.01, 60.0))
    )
    yield _taught(
        "nan_batches",
        "data",
        lr=3e-3,
        optimizer=adamw(),
        batches=data.taught_batches(32, faults.nonfinite_batches(0.02, math.nan)),
    )
    yield _taught(
        "inf_sample",
        "data",
        lr=0.01,
        batches=data.taught_batches(32, faults.nonfinite_batches(0.005, math.inf)),
    )
    yield _digits(
        "label_burst",
        "data",
        build=partial(networks.cnn, 8, 4, norm=True),
        lr=0.05,
        batches=_bursts,
        steps=250,
    )
    yield _taught(
        "learnt_noise", "data", build=partial(networks.mlp, 20, 64, 64, 20), loss=scoring.gaussian, lr=0.05,
        held_out=scoring.on(data.taught(1024, data.gen(scoring.HELD_OUT_SEED)), scoring.gaussian),
        guess=_gaussian_guess(), batches=data.taught_batches(32, faults.outlier_targets(0.01, 20.0)),
    )  # fmt: skip


def _gaussian_guess() -> float:
    targets = data.taught(1024, data.gen(scoring.HELD_OUT_SEED))[1]
    return float((0.5 + targets.std(0).log()).mean())


def _bursts(generator: torch.Generator) -> Iterator[Batch]:
    """Ten of every 250 batches hold wrong labels and inputs fifty times too large."""
    for step, (images, labels) in enumerate(data.digit_batches(24)(generator)):
        if 120 <= step % 250 < 130:
            yield images * 50, torch.randint(0, 10, labels.shape, generator=generator)
        else:
            yield images, labels


def _chips() -> Iterator[Workload]:
    for name, fault in (("weight_bit", faults.flip_weight_bit), ("moment_bit", faults.flip_moment_bit)):
        yield _digits(f"{name}_adam", "chip", optimizer=adamw(), lr=2e-3, fault=fault(150))
        yield _digits(f"{name}_sgd", "chip", lr=0.03, fault=fault(150))


def _vision() -> Iterator[Workload]:
    held = scoring.on(_objects(256, data.gen(scoring.HELD_OUT_SEED), broken=False), scoring.box)
    yield Workload(
        "boxes",
        "vision",
        networks.Boxes,
        sgd(),
        0.02,
        partial(_object_batches, broken=True),
        scoring.box,
        held,
        1.6,
        300,
    )
    points = scoring.on(_objects(256, data.gen(scoring.HELD_OUT_SEED), broken=False), scoring.keypoints)
    yield Workload(
        "keypoints", "vision", partial(networks.Boxes, 2), adamw(), 3e-3, partial(_object_batches, broken=True),
        scoring.keypoints, points, 30.0, 300,
    )  # fmt: skip


def _objects(rows: int, generator: torch.Generator, *, broken: bool) -> Batch:
    """A digit pasted into 16 x 16 pixels, its centre and size; where broken, a few have no size at all."""
    images = data.digits().inputs[torch.randint(0, 1400, (rows,), generator=generator)].view(-1, 8, 8)
    canvas = torch.zeros(rows, 1, 16, 16)
    places = torch.randint(0, 9, (rows, 2), generator=generator)
    for i, (y, x) in enumerate(places.tolist()):
        canvas[i, 0, y : y + 8, x : x + 8] = images[i]
    size = torch.full((rows, 2), 0.5)
    if broken:
        size[torch.rand(rows, generator=generator) < 0.01] = 1e-4
    return canvas, torch.cat([(places.flip(1) + 4) / 16, size], 1)


def _object_batches(generator: torch.Generator, *, broken: bool) -> Iterator[Batch]:
    while True:
        yield _objects(16, generator, broken=broken)


def _sparse() -> Iterator[Workload]:
    build: Callable[[], nn.Module] = networks.RareWords
    held = scoring.on(_bags(1024, data.gen(scoring.HELD_OUT_SEED)), scoring.cross_entropy)
    yield Workload(
        "rare_embedding",
        "data",
        build,
        adamw(),
        1e-2,
        _bag_batches,
        scoring.cross_entropy,
        held,
        math.log(10),
        400,
    )


def _bags(rows: int, generator: torch.Generator) -> Batch:
    """Words by Zipf's law; the label follows from the commonest word in the bag."""
    ranks = torch.rand(rows, 8, generator=generator)
    words = (2000.0**ranks - 1).long().clamp_max(1999)
    return words, words.min(1).values % 10


def _bag_batches(generator: torch.Generator) -> Iterator[Batch]:
    while True:
        yield _bags(32, generator)
