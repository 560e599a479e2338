"""Data in which nothing differs, targets out of scale, softmaxes that are sure, models that answer all alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

import steadygrad as sg


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def net(inputs=8, outputs=4):
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs))


def classes(labels):
    return lambda out: functional.cross_entropy(out, labels)


def kinds(found, severity=None):
    return [one.kind for one in found.findings if severity is None or one.severity == severity]


@pytest.mark.parametrize("value", [0.0, 3.0, -1e6])
def test_inputs_that_are_one_number(value):
    found = sg.check(net(), torch.full((16, 8), value), classes(torch.arange(16) % 4))
    (one,) = [one for one in found.findings if one.kind == "constant_input"]
    assert one.evidence["value"] == value
    assert one.where == ("input", "0")


def test_one_row_again_and_again():
    found = sg.check(net(), torch.randn(1, 8).expand(16, 8), classes(torch.arange(16) % 4))
    assert "constant_input" in kinds(found, "warning")


def test_tokens_that_are_all_padding():
    model = nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Linear(40, 4))
    found = sg.check(model, torch.zeros(16, 5, dtype=torch.long), classes(torch.arange(16) % 4))
    assert "constant_input" in kinds(found, "warning")
    varied = sg.check(model, torch.randint(10, (16, 5)), classes(torch.arange(16) % 4))
    assert "constant_input" not in kinds(varied)


class Own(nn.Module):
    """No layer of torch's takes the data."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 4))

    def forward(self, x, mask=None):
        return x @ self.weight


def test_a_model_without_layers_is_judged_by_its_batch():
    labels = torch.arange(16) % 4
    assert "constant_input" in kinds(sg.check(Own(), torch.ones(16, 8), classes(labels)))
    assert "constant_input" not in kinds(
        sg.check(Own(), (torch.randn(16, 8), torch.ones(16, 8)), classes(labels))
    )


def test_a_sparse_part_of_the_batch_is_left_alone():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x, adjacency):
            return self.layer(torch.sparse.mm(adjacency, x))

    x, adjacency = torch.randn(16, 8), torch.eye(16).to_sparse()
    assert sg.check(Graph(), (x, adjacency), classes(torch.arange(16) % 4)).notes == ()
    assert "constant_input" in kinds(sg.check(Graph(), (0 * x, adjacency), classes(torch.arange(16) % 4)))


def test_a_few_equal_rows_say_nothing():
    found = sg.check(net(), torch.ones(4, 8), classes(torch.arange(4)))
    assert "constant_input" not in kinds(found)


def test_recurrent_input_that_is_the_same_at_each_step_but_not_for_each_row():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(8, 16), nn.Linear(16, 4)

        def forward(self, x):
            return self.head(self.rnn(x.expand(12, 16, 8))[0][-1])

    found = sg.check(Decoder(), torch.randn(16, 8), classes(torch.arange(16) % 4))
    assert not {"constant_input", "constant_prediction"} & set(kinds(found))


def test_differences_that_the_model_takes_away_are_not_called_the_datas():
    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, x):
            return self.body(x.mean(0, keepdim=True).expand_as(x))

    found = sg.check(Averaged(), torch.randn(16, 8), classes(torch.arange(16) % 4))
    assert kinds(found, "warning") == ["constant_prediction"]
    assert "body.0" in str(found)


@pytest.mark.parametrize(("count", "severity"), [(256, "warning"), (32, "info")])
def test_labels_of_one_class(count, severity):
    found = sg.check(net(), torch.randn(count, 8), classes(torch.full((count,), 2)))
    (one,) = [one for one in found.findings if one.kind == "constant_targets"]
    assert (one.severity, one.evidence["value"]) == (severity, 2.0)


def test_padding_is_no_label():
    labels = torch.full((256,), -100)
    labels[:4] = torch.arange(4)
    assert "constant_targets" not in kinds(sg.check(net(), torch.randn(256, 8), classes(labels)))


def test_a_second_loss_that_has_targets_is_heard():
    def loss(out):
        same = functional.mse_loss(out[:, 0], torch.zeros(256))
        return same + functional.cross_entropy(out, torch.arange(256) % 4)

    assert "constant_targets" not in kinds(sg.check(net(), torch.randn(256, 8), loss))


def test_targets_by_cast_and_slice_are_still_the_outputs():
    def loss(out):
        return functional.mse_loss(out[:, :1].double(), torch.full((256, 1), 7.0, dtype=torch.double))

    assert "constant_targets" in kinds(sg.check(net(), torch.randn(256, 8), loss))


@pytest.mark.parametrize("scale", [1e3, 1e6])
@pytest.mark.parametrize(
    "loss_fn", [functional.mse_loss, functional.l1_loss, lambda out, y: ((out - y) ** 2).mean()]
)
def test_targets_out_of_scale(scale, loss_fn):
    model, inputs = net(outputs=1), torch.randn(64, 8)
    targets = scale * (1 + inputs[:, :1])
    found = sg.check(model, inputs, lambda out: loss_fn(out, targets), torch.optim.Adam(model.parameters()))
    assert kinds(found, "warning") + kinds(found, "error") == ["unscaled_targets"]
    again = sg.check(
        model, inputs, lambda out: loss_fn(out, targets / scale), torch.optim.Adam(model.parameters())
    )
    assert "unscaled_targets" not in kinds(again)


@pytest.mark.parametrize("scale", [1e-4, 1e-9])
@pytest.mark.parametrize("loss_fn", [functional.mse_loss, functional.smooth_l1_loss])
def test_targets_too_small_to_be_told_from_chance(scale, loss_fn):
    model, inputs = net(outputs=1), torch.randn(64, 8)
    targets = scale * inputs[:, :1]
    (finding,) = sg.check(
        model, inputs, lambda out: loss_fn(out, targets), torch.optim.Adam(model.parameters())
    ).findings
    assert (finding.kind, finding.severity) == ("unscaled_targets", "warning")
    assert "tiny" in finding.causes[0]


def test_targets_of_zero_and_small_ones_are_no_fault():
    model, inputs = net(outputs=1), torch.randn(64, 8)
    for targets in (torch.zeros(64, 1), 0.03 * inputs[:, :1]):
        found = sg.check(model, inputs, lambda out, y=targets: functional.mse_loss(out, y))
        assert "unscaled_targets" not in kinds(found)


def test_a_loud_input_is_no_fault_of_the_targets():
    model, inputs = net(outputs=1), torch.randn(64, 8) * torch.tensor([1e3] + [1.0] * 7)
    targets = 0.1 * torch.randn(64, 1)
    found = sg.check(model, inputs, lambda out: functional.mse_loss(out, targets))
    assert kinds(found, "warning") == ["unnormalised_input"]


class Attention(nn.Module):
    def __init__(self, factor, fused=False, causal=False):
        super().__init__()
        self.query, self.key, self.head = nn.Linear(64, 256), nn.Linear(64, 256), nn.Linear(64, 4)
        self.factor, self.fused, self.causal = factor, fused, causal
        nn.init.normal_(self.query.weight, std=64**-0.5)
        nn.init.normal_(self.key.weight, std=64**-0.5)

    def forward(self, x):
        query, key = self.query(x), self.key(x)
        if self.fused:
            # Values of another width than the keys take another way through torch.
            value = x if self.causal else x.repeat(1, 1, 4)
            one = functional.scaled_dot_product_attention(
                query[:, None], key[:, None], value[:, None], is_causal=self.causal, scale=self.factor
            )[:, 0, :, :64]
        else:
            one = (query @ key.transpose(1, 2) * self.factor).softmax(-1) @ x
        return self.head(one.mean(1))


@pytest.mark.parametrize(("fused", "causal"), [(False, False), (True, False), (True, True)])
def test_scores_without_the_root_of_the_width(fused, causal):
    inputs, loss_fn = torch.randn(8, 32, 64), classes(torch.arange(8) % 4)
    found = sg.check(Attention(1.0, fused, causal), inputs, loss_fn)
    (one,) = [one for one in found.findings if one.kind == "sharp_softmax"]
    assert one.evidence["weight"] > 0.75
    assert "sharp_softmax" not in kinds(sg.check(Attention(1 / 16, fused, causal), inputs, loss_fn))


def test_a_temperature_near_zero_in_the_loss():
    labels = torch.arange(32) % 10
    model, inputs = net(outputs=10), torch.randn(32, 8)
    found = sg.check(model, inputs, lambda out: functional.cross_entropy(out / 1e-3, labels))
    assert next(one.kind for one in found.findings) == "sharp_softmax"
    assert found.findings[0].where == ("loss",)
    assert "sharp_softmax" not in kinds(sg.check(model, inputs, classes(labels)))


def test_being_sure_and_right_is_no_fault():
    model = nn.Linear(10, 10, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.eye(10))
    inputs = torch.eye(10).repeat(4, 1)
    labels = inputs.argmax(1)
    found = sg.check(model, inputs, lambda out: functional.cross_entropy(out * 100, labels))
    assert "sharp_softmax" not in kinds(found)


def test_a_training_that_stays_at_the_constant_is_told_from_its_copies():
    class Lost(nn.Module):
        """Differences are there where they enter, and gone behind."""

        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x):
            hidden = self.first(x).relu()
            return self.last(hidden.mean(0, keepdim=True).expand_as(hidden))

    model = Lost()
    found = sg.check(
        model, torch.randn(32, 8), classes(torch.arange(32) % 4), torch.optim.Adam(model.parameters(), 1e-2)
    )
    assert kinds(found, "warning") == ["constant_prediction"]
    assert found.findings[0].evidence["loss of a constant"] == pytest.approx(math.log(4), rel=1e-3)


@dataclass
class Answer:
    logits: torch.Tensor


def test_targets_are_heard_behind_outputs_with_names():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = net()

        def forward(self, x):
            return Answer(self.body(x))

    labels = torch.full((256,), 1)
    found = sg.check(Named(), torch.randn(256, 8), lambda out: functional.cross_entropy(out.logits, labels))
    assert "constant_targets" in kinds(found, "warning")
