"""Each way of calling it wrong has its sentence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.errors import UsageError


def mean(output):
    return output.mean()


MODEL = nn.Linear(3, 3)
BATCH = torch.randn(8, 3)
WRONG = {
    "no module": ((lambda x: x, BATCH, mean), "expected a torch.nn.Module, got function"),
    "nothing to train": ((nn.ReLU(), BATCH, mean), "ReLU has no parameters: nothing can be trained"),
    "not a scalar": (
        (MODEL, BATCH, lambda output: output),
        r"shape \(8, 3\) and dtype float32; expected one",
    ),
    "not a tensor": ((MODEL, BATCH, lambda output: 3.0), "loss_fn returned float; expected a tensor"),
    "an integer": ((MODEL, BATCH, lambda output: (output > 0).sum()), "dtype int64; expected one"),
    "no loss at all": ((MODEL, BATCH), r"the model returned a tensor of shape .* Give a loss_fn"),
    "optimizer in third place": (
        (MODEL, BATCH, torch.optim.SGD(MODEL.parameters(), 0.1)),
        "expected a function, got SGD. An optimizer is the fourth argument",
    ),
    "scheduler": (
        (MODEL, BATCH, mean, torch.optim.lr_scheduler.ConstantLR(torch.optim.SGD(MODEL.parameters(), 0.1))),
        "expected a torch.optim.Optimizer, got ConstantLR",
    ),
    "targets in the batch": (
        (MODEL, (BATCH, BATCH), mean),
        "2 values of the batch .* Targets belong into loss_fn",
    ),
    "wrong keyword": ((MODEL, {"x": BATCH}, mean), "the keywords x of the batch"),
    "another device": ((MODEL, BATCH.to("meta"), mean), "the batch lies on meta and the model on cpu: move"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_told(name):
    arguments, message = WRONG[name]
    with pytest.raises(UsageError, match=message):
        sg.check(*arguments)


def test_what_the_model_raises_comes_through():
    class Faulty(nn.Linear):
        def forward(self, x):
            raise KeyError("hidden")

    with pytest.raises(KeyError, match="hidden"):
        sg.check(Faulty(3, 3), BATCH, mean)


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, torch.OutOfMemoryError])
def test_what_the_model_raises_comes_through_though_a_part_of_the_batch_lies_elsewhere(error):
    class Faulty(nn.Linear):
        def forward(self, x, lengths):
            raise error("the vocabulary is empty")

    with pytest.raises(error, match=r"^the vocabulary is empty$"):
        sg.check(Faulty(3, 3), (BATCH, torch.ones(4, device="meta")), mean)


def test_what_the_loss_raises_comes_through():
    def loss(output):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sg.check(MODEL, BATCH, loss)


def test_a_model_that_isnt_deterministic_is_told():
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x):
            Counting.calls += 1
            return super().forward(x) + Counting.calls

    found = sg.check(Counting(3, 3), BATCH, mean)
    assert any("isn't deterministic" in note for note in found.notes)


def test_random_numbers_of_torch_are_no_lack_of_determinism():
    assert sg.check(nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5)), BATCH, mean).notes == ()


def test_a_loss_that_uses_the_model_itself_is_told():
    head = nn.Linear(4, 1)
    model = nn.ModuleDict({"body": nn.Linear(3, 4), "head": head})
    model.forward = model["body"].forward
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found = sg.check(model, BATCH, lambda output: head(output).square().mean(), optimizer)
    assert any("uses the model itself" in note for note in found.notes)
    assert found.ok


def test_a_lazy_model_stays_lazy():
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(1))
    assert sg.check(model, BATCH, mean).ok
    assert isinstance(model[0], nn.LazyLinear)
    assert nn.parameter.is_lazy(model[0].weight)


def test_a_model_that_cant_be_copied_is_told():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    model = Stubborn(3, 3)
    found = sg.check(model, BATCH, mean, torch.optim.SGD(model.parameters(), 0.1))
    assert found.notes == ("not checked: first_steps (TypeError: no copies)",)


def test_a_compiled_model_is_looked_at_eagerly():
    model = torch.compile(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)))
    found = sg.check(model, BATCH, mean, torch.optim.SGD(model.parameters(), 0.1))
    assert found.ok
    assert [name for name, _ in found.gains] == ["0", "2"]


def test_a_lazy_model_and_its_optimizer_are_looked_at_together():
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found = sg.check(model, BATCH, lambda output: output.square().mean(), optimizer)
    assert (found.findings, found.notes) == ((), ())
    assert all(nn.parameter.is_lazy(param) for group in optimizer.param_groups for param in group["params"])


@pytest.mark.parametrize("make", [torch.jit.script, lambda model: torch.jit.trace(model, BATCH)])
def test_a_scripted_model_is_told(make):
    with pytest.raises(UsageError, match=r"has a part compiled by torch\.jit.*made from"):
        sg.check(nn.Sequential(make(nn.Linear(3, 3))), BATCH, mean)


def test_inference_mode_is_told():
    with torch.inference_mode(), pytest.raises(UsageError, match="inference_mode"):
        sg.check(MODEL, BATCH, mean)


@pytest.mark.parametrize("steps", [0, -1, 2.5, "a", None, True])
def test_a_number_of_steps_that_is_none_is_told(steps):
    found = sg.check(MODEL, BATCH, mean, torch.optim.SGD(MODEL.parameters(), 0.1))
    with pytest.raises(UsageError, match=r"try_remedies.*whole number of at least 1"):
        found.try_remedies(steps)


def test_an_optimizer_with_several_epsilons_is_looked_at():
    found = sg.check(MODEL, BATCH, mean, torch.optim.Adafactor(MODEL.parameters()))
    assert found.notes == ()
