"""Each fault has its finding, in its place, with the cause that the numbers show in front."""

from __future__ import annotations

import pytest
import torch
from benchmarks.remedies.recipes import RECIPES, Loop
from torch import nn
from torch.nn import functional

import steadygrad as sg

FOUND = {
    "deep_sigmoid_narrow_adam": "vanishing_gradient",
    "relu_weights_too_small": "vanishing_gradient",
    "deep_tanh_weights_too_small": "vanishing_gradient",
    "deep_plain_cnn": "vanishing_gradient",
    "relu_weights_of_spread_one": "exploding_gradient",
    "residual_blocks_without_norm": "exploding_gradient",
    "linear_rate_of_three": "exploding_gradient",
    "adam_rate_of_one": "learning_rate_too_high",
    "adam_rate_of_a_thousand": "learning_rate_too_high",
    "post_norm_transformer_without_warm_up": "learning_rate_too_high",
    "pre_norm_transformer_too_fast": "learning_rate_too_high",
    "batchnorm_cnn_rate_of_one": "learning_rate_too_high",
    "sigmoid_output_large_targets": "output_range_mismatch",
    "fourth_power_raw": "unnormalised_input",
    "pixels_to_255": "unnormalised_input",
    "half_precision_overflows": "unnormalised_input",
    "half_precision_loses_epsilon": "nonfinite_parameter",
    "softmax_twice": "double_softmax",
    "climbs_the_loss": "divergence",
    "frozen_by_mistake": "disconnected_parameters",
    "optimizer_of_a_copy": "stale_optimizer",
    "recurrent_relu_explodes": "exploding_in_time",
    "recurrent_tanh_explodes": "exploding_in_time",
}


@pytest.mark.parametrize("name", FOUND)
def test_the_first_finding_is_the_fault(name):
    torch.manual_seed(0)
    found = RECIPES[name]().check()
    assert not found.ok
    first = found.findings[0]
    assert first.kind == FOUND[name]
    assert first.causes
    assert first.remedies
    assert all(isinstance(value, float) for value in first.evidence.values())


def square(output):
    return output.square().mean()


def linear_stack(**more):
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1)), torch.randn(32, 4)


def kinds(*arguments, severity=("warning", "error")):
    return [one.kind for one in sg.check(*arguments).findings if one.severity in severity]


def test_a_tanh_network_of_radius_nine_tenths_vanishes_in_time():
    (first,) = sg.check(Loop(0.9, torch.tanh), torch.rand(32, 100, 2), square).findings
    assert (first.kind, first.severity, first.where) == ("vanishing_in_time", "warning", ("recur",))
    assert first.evidence["horizon"] < 60


@pytest.mark.parametrize("steps", [20, 100, 300])
def test_a_healthy_lstm_is_no_alarm_however_long_the_sequence(steps):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(2, 16, batch_first=True), nn.Linear(16, 1)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    assert kinds(Last(), torch.randn(16, steps, 2), square) == []


def test_the_cause_that_the_weights_show_comes_first():
    torch.manual_seed(0)
    first = RECIPES["deep_tanh_weights_too_small"]().check().findings[0]
    assert "too small" in first.causes[0]
    assert "xavier" in first.remedies[0].code
    torch.manual_seed(0)
    first = RECIPES["sigmoid_cnn"]().check().findings[0]
    assert "Sigmoid" in first.causes[0]


def test_a_detach_in_the_middle_is_told_from_a_head_that_isnt_read():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head, self.aside = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 1)

        def forward(self, x):
            hidden = self.body(x).relu()
            self.kept = self.aside(hidden)
            return self.head(hidden.detach())

    found = sg.check(Cut(), torch.randn(16, 4), square).findings
    assert [(one.severity, one.where) for one in found if one.kind == "disconnected_parameters"] == [
        ("warning", ("body.weight", "body.bias", "aside.weight", "aside.bias"))
    ]


def test_everything_frozen_is_told():
    model, batch = linear_stack()
    (first,) = sg.check(model.requires_grad_(requires_grad=False), batch, square).findings
    assert first.kind == "disconnected_loss"
    assert "frozen" in first.summary


def test_parameters_that_the_optimizer_lacks():
    model, batch = linear_stack()
    optimizer = torch.optim.SGD(model[0].parameters(), 0.01)
    assert kinds(model, batch, square, optimizer) == ["disconnected_parameters"]


def test_layers_in_a_plain_list_are_told():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.layers = nn.Linear(8, 1), [nn.Linear(4, 8)]

        def forward(self, x):
            return self.head(self.layers[0](x).relu())

    (first,) = sg.check(Hidden(), torch.randn(16, 4), square).findings
    assert first.kind == "disconnected_parameters"
    assert "2 parameters that model.parameters() doesn't list" in first.summary


def test_an_epsilon_of_zero_is_told():
    model, batch = linear_stack()
    model[0].bias.data[:4] = -100.0
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=0.0)
    assert kinds(model, batch, square, optimizer)[0] == "nonfinite_parameter"


def test_sparse_gradients_are_looked_at():
    model = nn.Sequential(nn.Embedding(20, 4, sparse=True), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    found = sg.check(model, torch.randint(0, 20, (16, 3)), square, optimizer)
    assert found.ok
    assert found.notes == ()


def test_dead_and_saturated_units():
    model, batch = linear_stack()
    model[0].bias.data.fill_(-100.0)
    assert kinds(model, batch, square) == ["dead_units"]
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    model[0].weight.data *= 1000.0
    assert kinds(model, batch, square) == ["saturated_units"]


@pytest.mark.parametrize("squeeze", [False, True])
def test_softmax_over_one_unit(squeeze):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 1)

        def forward(self, x):
            return self.body(x).softmax(-1)

    targets = torch.rand(16, 1)
    assert kinds(One(), torch.randn(16, 4), lambda out: functional.mse_loss(out, targets)) == [
        "single_class_softmax"
    ]


def test_logits_into_nll_loss():
    labels = torch.arange(30) % 3
    found = kinds(nn.Linear(4, 3), torch.randn(30, 4), lambda out: functional.nll_loss(out, labels))
    assert found == ["output_range_mismatch"]


def test_a_rate_of_zero_stalls():
    model, batch = linear_stack()
    assert kinds(model, batch, square, torch.optim.SGD(model.parameters(), 0.0)) == ["stalled_update"]


def test_an_activation_near_the_end_of_half_precision():
    model = nn.Linear(4, 4).half()
    model.weight.data.fill_(6e3)
    batch = torch.ones(8, 4, dtype=torch.float16)
    assert "nonfinite_activation" in kinds(model, batch, lambda out: out.float().mean() * 1e-6)


def test_a_nan_is_traced_to_its_operation():
    class Log(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 4)

        def forward(self, x):
            return (self.body(x) - 100).log()

    (first,) = sg.check(Log(), torch.randn(8, 4), square).findings
    assert first.kind == "nonfinite_activation"
    assert "aten.log" in first.summary


def test_text_and_notebook():
    torch.manual_seed(0)
    found = RECIPES["softmax_twice"]().check()
    assert str(found).splitlines()[0] == "checkup: 1 finding, first double_softmax"
    assert ">checkup: 1 finding" in found._repr_html_()
    assert found.gain_per_layer > 0
    assert found.time_gain == {}
    assert [name for name, _ in found.gains] == ["0", "2"]
