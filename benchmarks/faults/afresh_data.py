"""Data of the families written last, which share none of the others'.

Shape legend: N rows, P points of a cloud, T time steps, C channels, V nodes, D features.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from benchmarks.faults.data import Pair


@functools.cache
def clouds(count: int = 480, points: int = 48) -> Pair:
    """Points on a sphere, on the faces of a cube, on a tube or on a disc, ``[N, P, 3]``, about 1 in size."""
    noise = _generator(41)
    kind = torch.arange(count) % 4
    raw = torch.randn(count, points, 3, generator=noise)
    sphere = raw / raw.norm(dim=-1, keepdim=True)
    cube = raw / raw.abs().amax(-1, keepdim=True)
    tube = torch.cat([sphere[..., :2] / sphere[..., :2].norm(dim=-1, keepdim=True), raw[..., 2:].tanh()], -1)
    disc = raw.clone().clamp(-1.5, 1.5)
    disc[..., 2] *= 0.05
    shapes = torch.stack([sphere, cube, tube, disc])[kind, torch.arange(count)]
    size = 0.8 + 0.4 * torch.rand(count, 1, 1, generator=noise)
    return shapes * size + 0.02 * torch.randn(count, points, 3, generator=noise), kind


@functools.cache
def brainwaves(count: int = 480, length: int = 96, channels: int = 4) -> Pair:
    """Rhythms of three frequencies over autocorrelated noise, of unit size, ``[N, C, T]``."""
    noise = _generator(42)
    kind = torch.arange(count) % 3
    time = torch.arange(length) / length
    cycles = torch.tensor([6.0, 10.0, 18.0])[kind]
    phase = 2 * math.pi * torch.rand(count, channels, 1, generator=noise)
    rhythm = torch.sin(2 * math.pi * cycles[:, None, None] * time + phase)
    drift = torch.randn(count, channels, length, generator=noise).cumsum(-1) / 6
    signal = rhythm + 0.5 * (drift - drift.mean(-1, keepdim=True))
    return signal / signal.std(), kind


@functools.cache
def blots(count: int = 400, side: int = 16) -> Pair:
    """A dark picture with one to three bright blots and where they are, ``[N, 1, side, side]`` each."""
    noise = _generator(43)
    axis = torch.arange(side).float()
    pictures, masks = torch.zeros(count, 1, side, side), torch.zeros(count, 1, side, side)
    for row in range(count):
        for _ in range(1 + row % 3):
            x, y = (2 + (side - 4) * torch.rand(2, generator=noise)).tolist()
            near = torch.exp(-((axis[:, None] - y) ** 2 + (axis[None] - x) ** 2) / 5)
            pictures[row, 0] = torch.maximum(pictures[row, 0], near)
            masks[row, 0] = torch.maximum(masks[row, 0], (near > 0.5).float())
    return (pictures + 0.05 * torch.rand(pictures.shape, generator=noise)).clamp(0, 1), masks


@functools.cache
def survival(count: int = 640) -> Pair:
    """Eight standardised covariates; months until the event or the end of the study, and which, ``[N, 2]``."""
    noise = _generator(44)
    inputs = torch.randn(count, 8, generator=noise)
    risk = 2.0 * inputs[:, 0] - 1.5 * inputs[:, 1] + inputs[:, 2]
    time = 40 * torch.exp(-risk) * -torch.log(torch.rand(count, generator=noise))
    end = 200 * torch.rand(count, generator=noise)
    return inputs, torch.stack([torch.minimum(time, end), (time <= end).float()], 1)


@functools.cache
def phrases(count: int = 600, length: int = 8, words: int = 12) -> Pair:
    """A phrase and its translation: each word has another, and the order is reversed, ``[N, T]`` each."""
    noise = _generator(45)
    chances = torch.rand(words, generator=noise) ** 2
    phrase = torch.multinomial(chances.expand(count, -1), length, replacement=True, generator=noise)
    lexicon = torch.randperm(words, generator=noise)
    return phrase, lexicon[phrase].flip(1)


@functools.cache
def community(nodes: int = 240, kinds: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """A network of four circles of friends: features ``[V, 12]``, labels ``[V]`` and who knows whom ``[V, V]``."""
    noise = _generator(46)
    labels = torch.arange(nodes) % kinds
    same = labels[:, None] == labels[None]
    known = torch.rand(nodes, nodes, generator=noise) < torch.where(same, 0.12, 0.01)
    known = known | known.T | torch.eye(nodes, dtype=torch.bool)
    features = torch.randn(nodes, 12, generator=noise)
    features[torch.arange(nodes), labels] += 1.0
    return features, labels, known


@functools.cache
def reviews(count: int = 600, length: int = 20, words: int = 200) -> Pair:
    """Twenty words of which a pair in a row tells the subject, ``[N, T]``."""
    noise = _generator(47)
    labels = torch.arange(count) % 3
    text = torch.randint(20, words, (count, length), generator=noise)
    for _ in range(2):
        place = torch.randint(0, length - 1, (count,), generator=noise)
        text[torch.arange(count), place] = 2 * labels
        text[torch.arange(count), place + 1] = 2 * labels + 1
    return text, labels


@functools.cache
def documents(count: int = 400, listed: int = 8, features: int = 10) -> Pair:
    """What is listed for a query, ``[N, 8, D]``, and how relevant each is, from 0 to 3, ``[N, 8]``."""
    noise = _generator(48)
    inputs = torch.randn(count, listed, features, generator=noise)
    worth = inputs[..., 0] + inputs[..., 1].abs() - 0.7 * inputs[..., 2]
    return inputs, worth.argsort(1).argsort(1) // 2


@functools.cache
def photograph(side: int = 32) -> Pair:
    """Where each pixel is, in [-1, 1], ``[side ** 2, 2]``, and how bright, ``[side ** 2, 1]``."""
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    bright = torch.sin(5 * x) * torch.cos(4 * y) + torch.exp(-8 * ((x - 0.3) ** 2 + (y + 0.2) ** 2))
    return torch.stack([x, y], -1).flatten(0, 1), ((bright - bright.mean()) / bright.std()).flatten()[:, None]


@functools.cache
def ratings(count: int = 3000, people: int = 60, films: int = 50) -> Pair:
    """Who rated which film, ``[N, 2]``, and how, about 0 and of unit spread, ``[N]``."""
    noise = _generator(49)
    who = torch.randint(0, people, (count,), generator=noise)
    what = torch.randint(0, films, (count,), generator=noise)
    taste, kind = torch.randn(people, 2, generator=noise), torch.randn(films, 2, generator=noise)
    stars = (taste[who] * kind[what]).sum(1) + 0.7 * kind[what, 0] + 0.3 * torch.randn(count, generator=noise)
    return torch.stack([who, what], 1), (stars - stars.mean()) / stars.std()


@functools.cache
def speech(count: int = 400, columns: int = 20, letters: int = 5) -> Pair:
    """Spectra in which three of five letters sound one after the other, ``[N, T, 12]``, and which, ``[N, 3]``."""
    noise = _generator(50)
    sound = torch.randn(letters + 1, 12, generator=noise)
    sound[0] = 0.0
    said = torch.randint(1, letters + 1, (count, 3), generator=noise)
    spectra = 0.4 * torch.randn(count, columns, 12, generator=noise)
    begin = torch.randint(0, 3, (count,), generator=noise)
    for place in range(3):
        for held in range(3):
            spectra[torch.arange(count), begin + 6 * place + held] += sound[said[:, place]]
    return spectra, said


@functools.cache
def spirals(count: int = 600) -> Pair:
    """Two arms of a spiral, ``[N, 2]``."""
    noise = _generator(51)
    labels = torch.arange(count) % 2
    turn = 0.4 + 3.5 * torch.rand(count, generator=noise)
    angle = turn + math.pi * labels
    points = torch.stack([turn * angle.cos(), turn * angle.sin()], 1) / 2.5
    return points + 0.05 * torch.randn(count, 2, generator=noise), labels


@functools.cache
def tremors(count: int = 500, length: int = 20) -> Pair:
    """Two sensors over time, ``[N, T, 2]``, and the weighted mean of their product, of unit spread, ``[N, 1]``."""
    noise = _generator(52)
    inputs = torch.randn(count, length, 2, generator=noise)
    weight = torch.linspace(0.5, 1.0, length)
    told = (inputs[..., 0] * weight).sum(1) + (inputs[..., 1] * weight).sum(1).abs()
    return inputs, ((told - told.mean()) / told.std())[:, None]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
