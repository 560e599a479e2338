"""Outputs in dicts, tuples and dataclasses are looked at as plain ones are."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import steadygrad as sg
from steadygrad.calling import exchanged, mapped, tensors_in

SPREAD = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))


class Pair(NamedTuple):
    hidden: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Answer:
    logits: Tensor
    hidden: Tensor | None = None
    name: str = "answer"


class Ordered(OrderedDict):
    """As the outputs of transformers: attributes follow the entries."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)


def ordered(logits, hidden):
    out = Ordered()
    out["logits"], out["hidden"] = logits, hidden
    return out


SHAPES = {
    "plain": (lambda z, h: z, lambda out: out),
    "dict": (lambda z, h: {"hidden": h, "logits": z}, lambda out: out["logits"]),
    "tuple": (lambda z, h: (h, [z]), lambda out: out[1][0]),
    "namedtuple": (lambda z, h: Pair(h, z), lambda out: out.logits),
    "dataclass": (Answer, lambda out: out.logits),
    "attributes": (ordered, lambda out: out.logits),
}


class Net(nn.Module):
    def __init__(self, shape, last=None):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 16), nn.Linear(16, 4), last or nn.Identity()
        self.shape = SHAPES[shape][0]

    def forward(self, x):
        hidden = self.first(x).relu()
        return self.shape(self.last(self.second(hidden)), hidden)


def checked(shape, loss, last=None, lr=1e-3):
    torch.manual_seed(0)
    model, x = Net(shape, last), torch.randn(64, 8)
    labels = torch.arange(64) % 4
    read = SHAPES[shape][1]
    optimizer = torch.optim.Adam(model.parameters(), lr)
    return sg.check(model, x, lambda out: loss(read(out), x, labels), optimizer)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("kind", "loss", "last"),
    [
        ("double_softmax", lambda z, x, y: functional.cross_entropy(z, y), nn.Softmax(1)),
        ("output_range_mismatch", lambda z, x, y: functional.mse_loss(z, 30 + 10 * x[:, :4]), nn.Sigmoid()),
        ("unscaled_targets", lambda z, x, y: (z - 1e4 * x[:, :4]).square().mean(), None),
        ("sharp_softmax", lambda z, x, y: functional.cross_entropy(z @ SPREAD / 1e-4, y), None),
        (None, lambda z, x, y: functional.cross_entropy(z, y), None),
    ],
)
def test_the_same_is_found(shape, kind, loss, last):
    found = [one.kind for one in checked(shape, loss, last).findings if one.severity != "info"]
    assert found[:1] == ([kind] if kind else [])


@pytest.mark.parametrize("shape", ["plain", "dict", "dataclass"])
def test_remedies_reach_into_the_structure(shape):
    found = checked(shape, lambda z, x, y: functional.mse_loss(z, 1e4 * x[:, :4]), lr=1e-2)
    assert "Scale the targets" in next(iter(found.try_remedies(20))).remedy.action


def test_a_loss_that_reads_several_parts_is_left_alone():
    found = checked("tuple", lambda z, x, y: functional.cross_entropy(z, y))
    assert found.notes == ()
    torch.manual_seed(0)
    model, x = Net("tuple"), torch.randn(64, 8)
    several = sg.check(model, x, lambda out: out[0].square().mean() + out[1][0].square().mean())
    assert several.notes == ()
    assert several.ok


@pytest.mark.parametrize("shape", SHAPES)
def test_a_structure_is_rebuilt_in_the_order_in_which_it_is_read(shape):
    value = SHAPES[shape][0](torch.ones(2), torch.zeros(3))
    seen = []
    other = mapped(value, lambda one: seen.append(one) or one + 1)
    assert [id(one) for one in seen] == [id(one) for one in tensors_in(value)]
    assert type(other) is type(value)
    assert torch.equal(SHAPES[shape][1](other), torch.full((2,), 2.0))
    assert torch.equal(SHAPES[shape][1](value), torch.ones(2))
    last = len(tensors_in(value)) - 1
    changed = tensors_in(exchanged(value, last, torch.neg))
    assert torch.equal(changed[last], -tensors_in(value)[last])
