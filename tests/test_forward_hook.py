"""A model under watch is copied, pickled, traced and scripted as if nobody listened."""

import copy
import pickle
import pickletools

import pytest
import torch
from torch import nn

import steadygrad as sg
from steadygrad.errors import UsageError
from steadygrad.forward_hook import unheard


def trained(steps):
    """A model with every kind of hook of ours on it: after the first step signals are listened to as well."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters())
    monitor = sg.guard(model, optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().sum().backward()
        optimizer.step()
    return model, monitor


pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def theirs(module, args):
    """A hook of the user's."""


@pytest.mark.parametrize("steps", [0, 1])
def test_a_model_saved_whole_needs_no_steadygrad_to_be_loaded(steps):
    model, monitor = trained(steps)
    written = pickle.dumps(model)
    monitor.close()
    modules = {text for _, text, _ in pickletools.genops(written) if isinstance(text, str)}
    assert not [text for text in modules if "steadygrad" in text]
    loaded = pickle.loads(written)
    assert torch.equal(loaded[0](torch.ones(1, 4)), model[0](torch.ones(1, 4)))
    loaded(torch.ones(16, 4)).sum().backward()


@pytest.mark.parametrize("steps", [0, 1])
def test_a_model_is_traced_as_if_nobody_listened(steps):
    model, monitor = trained(steps)
    batch = torch.randn(16, 4)
    traced = torch.jit.trace(model, batch)
    monitor.close()
    plain = torch.jit.trace(model, batch)
    assert [node.kind() for node in traced.inlined_graph.nodes()] == [
        node.kind() for node in plain.inlined_graph.nodes()
    ]


@pytest.mark.parametrize("made", [lambda model: model, copy.deepcopy])
def test_scripting_says_what_is_in_its_way(made):
    model, monitor = trained(1)
    with pytest.raises(UsageError, match=r"under a watch or guard .* Close it first"):
        torch.jit.script(made(model))
    monitor.close()
    torch.jit.script(model)


@pytest.mark.parametrize(
    "made", [lambda model: model, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_hooks_of_ours_are_put_back_where_they_were(made):
    model, monitor = trained(1)
    model.register_forward_pre_hook(theirs)
    model = made(model)
    before = [list(module._forward_pre_hooks.items()) for module in model.modules()]
    with unheard(model):
        assert [len(module._forward_pre_hooks) for module in model.modules()] == [1, 0, 0, 0]
    assert [list(module._forward_pre_hooks.items()) for module in model.modules()] == before
    monitor.close()


def test_a_scripted_model_is_watched_without_a_fault(capfd):
    model = torch.jit.script(nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.guard(model, optimizer) as guard:
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        assert guard.counts.steps == 1
    assert "fault" not in capfd.readouterr().err
