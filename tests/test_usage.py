"""Bad use raises at the call, with the value, the place and the way out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.errors import RunFileError, UsageError

both_calls = pytest.mark.parametrize("call", [sg.watch, sg.guard], ids=["watch", "guard"])


def workload():
    model = nn.Linear(2, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def refuse(call, *args, match, **options):
    with pytest.raises(UsageError, match=match) as caught:
        call(*args, **options)
    assert isinstance(caught.value, ValueError)
    assert call.__name__ in str(caught.value)


@both_calls
def test_model_and_optimizer_that_share_nothing(call):
    model, _ = workload()
    _, stranger = workload()
    refuse(call, model, stranger, match="none of the 2 parameters of this SGD belongs to Linear")
    assert not stranger._optimizer_step_pre_hooks


@both_calls
def test_a_second_optimizer_that_shares_nothing(call):
    model, optimizer = workload()
    _, stranger = workload()
    refuse(call, model, [optimizer, stranger], match="none of the 2 parameters")
    assert not optimizer._optimizer_step_pre_hooks


@both_calls
def test_all_parameters_frozen(call):
    model, optimizer = workload()
    model.requires_grad_(False)
    refuse(call, model, optimizer, match="all 2 parameters of Linear are frozen")


@both_calls
def test_a_model_without_parameters(call):
    refuse(call, nn.ReLU(), match="ReLU has no parameters")


@both_calls
@pytest.mark.parametrize("model", [None, 3, "model", [nn.Linear(1, 1)]])
def test_something_that_is_no_model(call, model):
    refuse(call, model, match=f"expected a torch.nn.Module, got {type(model).__name__}")


@both_calls
@pytest.mark.parametrize("optimizer", [3, "adam", nn.Linear(1, 1), torch.optim.SGD])
def test_something_that_is_no_optimizer(call, optimizer):
    model, _ = workload()
    refuse(call, model, optimizer, match="expected a torch.optim.Optimizer or a list of them")


@both_calls
def test_parameters_in_place_of_the_optimizer(call):
    model, _ = workload()
    refuse(call, model, model.parameters(), match="expected a torch.optim.Optimizer")


@both_calls
@pytest.mark.parametrize("empty", [[], (), iter(())], ids=["list", "tuple", "generator"])
def test_an_empty_list_of_optimizers(call, empty):
    model, _ = workload()
    refuse(call, model, empty, match="no optimizer in it")


@both_calls
def test_the_same_optimizer_twice(call):
    model, optimizer = workload()
    refuse(call, model, [optimizer, optimizer], match="twice")


@both_calls
def test_any_collection_of_optimizers_will_do(call):
    model, optimizer = workload()
    for many in ([optimizer], (optimizer,), {optimizer}, iter([optimizer]), {"a": optimizer}.values()):
        with call(model, many) as monitor:
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            assert monitor.counts.steps == 1


@both_calls
def test_a_wrapper_is_opened(call):
    class Accelerated:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    model, optimizer = workload()
    with call(model, Accelerated(optimizer)):
        assert len(optimizer._optimizer_step_pre_hooks) == 1


@both_calls
@pytest.mark.parametrize("overhead", [-0.1, 1.5, float("nan"), "x", None, True, [0.1], 1j])
def test_an_overhead_out_of_range(call, overhead):
    refuse(call, *workload(), match="share of the step time between 0 and 1", overhead=overhead)


@pytest.mark.parametrize("policy", ["clip", 1.0, sg.policies.auto, sg.policies.Policy])
def test_something_that_is_no_policy(policy):
    refuse(sg.guard, *workload(), match="expected a policy such as", policy=policy)


def test_forgotten_parentheses_behind_a_policy():
    refuse(sg.guard, *workload(), match=r"Did you mean policy=auto\(\)\?", policy=sg.policies.auto)


@pytest.mark.parametrize("recover", ["auto", 1, sg.recover.rollback])
def test_something_that_is_no_recovery(recover):
    refuse(sg.guard, *workload(), match="expected True, False, None or", recover=recover)


@both_calls
@pytest.mark.parametrize("run", ["", 3, True, b"a.steady", ["a.steady"]])
def test_something_that_is_no_path(call, run):
    refuse(call, *workload(), match="expected the path of a run file", run=run)


@both_calls
def test_a_path_that_can_not_be_written(call, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    model, optimizer = workload()
    with pytest.raises(RunFileError, match="file"):
        call(model, optimizer, run=blocker / "a.steady")
    assert not optimizer._optimizer_step_pre_hooks
    assert not any(param._backward_hooks for param in model.parameters())


@pytest.mark.parametrize(
    "value",
    ["much", None, torch.ones(2), [1.0], 10**400, 1j, torch.tensor(1j)],
    ids=lambda value: str(value)[:9],
)
def test_logging_something_that_is_no_number(value):
    with sg.watch(*workload()) as monitor, pytest.raises(UsageError, match=r"log\(loss="):
        monitor.log(loss=value)


def test_errors_have_one_root():
    assert issubclass(UsageError, sg.errors.SteadygradError)
    assert issubclass(sg.errors.NonfiniteStreak, sg.errors.TrainingStopped)
