"""Listening inside the model: finds what is dead or fades through time, and changes nothing."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tests.test_no_host_read import HostReads
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import steadygrad as sg


class Reader(nn.Module):
    """A recurrent net that reads out at the last step."""

    def __init__(self, kind="RNN", *, packed=False, raw=True, batch_first=True):
        super().__init__()
        self.embed = nn.Identity() if raw else nn.Linear(3, 3)
        self.rnn = getattr(nn, kind)(3, 16, batch_first=batch_first)
        self.head = nn.Linear(16, 1)
        self.packed = packed

    def forward(self, x):
        x = self.embed(x)
        if self.packed:
            lengths = torch.arange(len(x)) % 20 + x.shape[1] - 20
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        state = self.rnn(x)[1]
        return self.head((state[0] if isinstance(state, tuple) else state)[-1])


def mlp(act=nn.ReLU):
    return nn.Sequential(nn.Linear(8, 32), act(), nn.Linear(32, 32), act(), nn.Linear(32, 1))


def cnn():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 4 * 4, 1),
    )  # fmt: skip


CASES = {
    "mlp": (mlp, (32, 8)),
    "cnn": (cnn, (8, 3, 8, 8)),
    "rnn on data": (Reader, (8, 30, 3)),
    "lstm on data": (lambda: Reader("LSTM"), (8, 30, 3)),
    "gru on activations": (lambda: Reader("GRU", raw=False), (8, 30, 3)),
    "packed": (lambda: Reader("LSTM", packed=True), (8, 30, 3)),
    "time first": (lambda: Reader(batch_first=False), (30, 8, 3)),
    "lstm, time first": (lambda: Reader("LSTM", batch_first=False), (30, 8, 3)),
}


def train(make, shape, attach=None, steps=12, change=None, scale=1.0, lr=1e-3):
    torch.manual_seed(0)
    model = make()
    if change is not None:
        change(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    monitor = attach(model, optimizer) if attach else None
    for _ in range(steps):
        optimizer.zero_grad()
        model(scale * torch.randn(shape)).square().mean().backward()
        optimizer.step()
    if monitor is not None:
        monitor.close()
        assert "switched off" not in monitor.summary()
    return model, monitor


def hooks(model):
    return sum(len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("attach", [sg.watch, sg.guard])
def test_weights_are_bit_identical_and_no_hook_stays(case, attach):
    make, shape = CASES[case]
    plain, _ = train(make, shape)
    watched, _ = train(make, shape, attach)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    assert hooks(watched) == 0


@pytest.mark.parametrize("case", [case for case in CASES if "rnn" not in case and "time" not in case])
def test_healthy_models_raise_no_warning(case):
    _, monitor = train(*CASES[case], sg.watch, steps=40)
    assert not [f for f in monitor.findings if f.severity != "info"]


def test_a_dead_layer_is_named():
    def kill(model):
        nn.init.constant_(model[2].bias, -100.0)

    _, monitor = train(mlp, (32, 8), sg.watch, steps=20, change=kill)
    (finding,) = [f for f in monitor.findings if f.kind == "dead_units"]
    assert finding.where == ("4",)
    assert finding.step <= 5


def test_a_saturated_layer_is_named():
    _, monitor = train(lambda: mlp(nn.Tanh), (64, 8), sg.watch, steps=20, scale=1e3)
    (finding,) = [f for f in monitor.findings if f.kind == "saturated_units"]
    assert finding.where[0] == "2"


@pytest.mark.parametrize(("radius", "kind"), [(0.5, "vanishing_in_time"), (1.4, "exploding_in_time")])
@pytest.mark.parametrize("packed", [False, True])
def test_growth_through_time_is_found_in_the_first_steps(radius, kind, packed):
    def spread(model):
        model.rnn.nonlinearity, model.rnn.mode = "relu", "RNN_RELU"
        nn.init.constant_(model.rnn.bias_ih_l0, 1.0)  # every unit stays open: the state is linear
        nn.init.zeros_(model.rnn.weight_ih_l0)
        with torch.no_grad():
            model.rnn.weight_ih_l0.fill_(0.01)
            model.rnn.weight_hh_l0.copy_(radius * torch.eye(16))

    _, monitor = train(lambda: Reader(packed=packed), (8, 60, 3), sg.watch, steps=3, change=spread, lr=0.0)
    finding = next(f for f in monitor.findings if "in_time" in f.kind)
    assert (finding.kind, finding.where, finding.step) == (kind, ("rnn",), 1)
    assert finding.evidence["gain per time step"] == pytest.approx(radius, rel=0.1)


@pytest.mark.parametrize("packed", [False, True])
def test_last_steps_that_the_loss_has_nothing_more_to_say_about_are_no_explosion(packed):
    """A trained model of sequences is sure of all but the first steps: only there does a gradient come in."""

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(3, 16, 3, batch_first=True), nn.Linear(16, 1)

        def forward(self, x):
            if packed:
                made = pad_packed_sequence(self.rnn(pack_sequence(list(x)))[0], batch_first=True)[0]
            else:
                made = self.rnn(x)[0]
            weight = torch.where(torch.arange(x.shape[1]) < 2, 1.0, 1e-7)
            return self.out(made)[..., 0] * weight

    _, monitor = train(Tagger, (8, 30, 3), sg.watch, steps=6)
    assert not [f for f in monitor.findings if f.kind == "exploding_in_time"]


def test_copies_and_pickles_of_a_model_that_is_listened_to_are_deaf():
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.watch(model, optimizer) as monitor:
        model(torch.randn(16, 8)).mean().backward()
        optimizer.step()
        assert hooks(model) > 1  # the next step is listened to
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            twin(torch.randn(16, 8)).mean().backward()
        assert not monitor._logbook.signals._look.layers
        with torch.no_grad():
            model(torch.randn(16, 8))
        assert not monitor._logbook.signals._look.layers
        model(torch.randn(16, 8)).mean().backward()
        assert set(monitor._logbook.signals._look.layers) == {"2", "4"}


def test_the_forward_pass_that_is_listened_to_makes_no_host_read():
    torch.manual_seed(0)
    model = Reader("LSTM", raw=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.watch(model, optimizer):
        for step in range(2):
            with HostReads() as reads:
                model(torch.randn(8, 30, 3)).mean().backward()
            assert not reads.seen, step
            optimizer.step()


def test_a_fault_in_it_does_not_reach_the_training(monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("steadygrad.signals.fired", broken)
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.watch(model, optimizer) as monitor:
        for _ in range(6):
            model(torch.randn(16, 8)).mean().backward()
            optimizer.step()
        assert "switched off: a fault in steadygrad's own signal probe" in monitor.summary()
        assert hooks(model) <= 1


def test_a_compiled_model_is_not_compiled_again():
    frames = []

    def backend(graph, inputs):
        frames.append(graph)
        return graph.forward

    torch.manual_seed(0)
    torch._dynamo.reset()
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.watch(model, optimizer):
        compiled = torch.compile(model, backend=backend)
        counts = []
        for _ in range(7):
            optimizer.zero_grad()
            compiled(torch.randn(16, 8)).mean().backward()
            optimizer.step()
            counts.append(len(frames))
    assert counts[-1] == counts[0]


def test_a_run_file_keeps_what_was_heard_and_what_it_cost(tmp_path):
    def attach(model, optimizer):
        return sg.guard(model, optimizer, run=tmp_path / "a.steady")

    train(
        lambda: nn.Sequential(Reader(), nn.ReLU(), nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)),
        (16, 30, 3),
        attach,
        steps=70,
    )
    with sg.open_run(tmp_path / "a.steady") as run:
        assert {1, 3, 5} <= {look.step for look in run.looks}
        look = run.looks[-1]
        assert (look.layers, look.through_time[0].module, look.through_time[0].length) == (3, "0.rnn", 30)
        assert 0 <= look.dead_mean <= look.dead <= 1
        steps, share = run.scalars("steadygrad/overhead")
        assert steps.tolist() == [63, 69]
        assert ((share > 0) & (share < 1)).all()


class Cell(nn.Module):
    """A layer of somebody's own, with bare parameters."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 1))

    def forward(self, inputs):
        return inputs @ self.kernel


@pytest.mark.parametrize(("make", "name"), [(mlp, "0"), (Cell, "")])
def test_raw_data_is_told_where_it_enters(make, name):
    _, monitor = train(make, (32, 8), sg.watch, scale=200.0, lr=1e-9)
    (finding,) = [one for one in monitor.findings if one.kind == "unnormalised_input"]
    assert (finding.severity, finding.where) == ("warning", ("input", name) if name else ("input",))


@pytest.mark.parametrize(("scale", "told"), [(100.0, True), (1.0, False)])
def test_coordinates_of_which_gradients_are_asked_are_data_too(scale, told):
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    monitor = sg.watch(model, optimizer)
    for _ in range(40):
        optimizer.zero_grad()
        coordinates = (scale * torch.randn(32, 8)).requires_grad_()
        field = model(coordinates).square().sum(1)
        (slope,) = torch.autograd.grad(field.sum(), coordinates, create_graph=True)
        (slope.square().mean() + field.mean()).backward()
        optimizer.step()
    assert ("unnormalised_input" in {one.kind for one in monitor.findings}) is told


def test_a_latent_that_is_learnt_is_no_data():
    torch.manual_seed(0)
    model = mlp()
    latent = nn.Parameter(100.0 * torch.randn(32, 8))
    optimizer = torch.optim.SGD([*model.parameters(), latent], lr=1e-9)
    monitor = sg.watch(model, optimizer)
    for _ in range(40):
        optimizer.zero_grad()
        model(latent).square().mean().backward()
        optimizer.step()
    assert "unnormalised_input" not in {one.kind for one in monitor.findings}


def test_data_that_a_frozen_layer_takes_is_nobodys_business():
    def freeze(model):
        model[0].requires_grad_(False)

    _, monitor = train(mlp, (32, 8), sg.watch, scale=200.0, lr=1e-9, change=freeze)
    assert "0" not in [name for one in monitor.findings for name in one.where]


def loud(model):
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 30.0)


def test_a_model_that_is_loud_from_the_start_is_told():
    _, monitor = train(mlp, (32, 8), sg.watch, change=loud, lr=1e-12)
    (finding,) = [one for one in monitor.findings if one.kind == "exploding_gradient"]
    assert (finding.severity, finding.where) == ("warning", ("2", "4"))


def test_a_model_that_a_step_has_made_loud_had_a_sound_start():
    _, monitor = train(mlp, (32, 8), sg.watch, lr=1e3)
    assert "already at the start" not in str(monitor.findings)
