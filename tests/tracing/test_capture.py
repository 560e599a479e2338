"""Holding on to a step of a real loop, and replaying it."""

from __future__ import annotations

import copy
import gc
import io
import math
import weakref

import pytest
import torch
from torch import nn

from steadygrad.tracing import Capture
from steadygrad.tracing.capture import UNHEARD, UNMOVED


class Spiky(nn.Module):
    """The square root of nothing, for the rows whose first feature is 0."""

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.head = nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 1)

    def forward(self, x):
        h = self.drop(self.first(x))
        return self.head(h + torch.sqrt(h.square().sum(1, keepdim=True) * x[:, :1].abs()))


def healthy():
    return torch.rand(4, 3) + 0.5


def broken():
    batch = healthy()
    batch[2, 0] = 0.0
    return batch


def make_step(model, batch):
    output = model(batch)
    output.square().mean().backward()
    return output


def test_the_newest_step_is_replayed_with_the_same_random_numbers():
    model = Spiky()
    capture = Capture(model)
    make_step(model, healthy())
    assert capture.replay() == (None, UNMOVED)
    make_step(model, broken())
    before = torch.get_rng_state()
    grads = [param.grad.clone() for param in model.parameters()]
    origin = capture.replay().origin
    assert (origin.phase, origin.operation, origin.rows) == ("backward", "SqrtBackward0", (2,))
    assert torch.equal(before, torch.get_rng_state())
    for param, grad in zip(model.parameters(), grads, strict=True):
        torch.testing.assert_close(param.grad, grad, rtol=0, atol=0, equal_nan=True)


def test_an_earlier_micro_batch_is_found():
    model = Spiky()
    capture = Capture(model)
    for batch in (healthy(), broken(), healthy(), healthy()):
        make_step(model, batch)
    assert capture.replay().origin.operation == "SqrtBackward0"


def test_the_loss_is_blamed_when_its_gradient_is_broken_already():
    model = nn.Linear(3, 1)
    capture = Capture(model)
    output = model(healthy())
    (output - output.detach()).sqrt().sum().backward()
    origin = capture.replay().origin
    assert (origin.phase, origin.operation, origin.module) == ("loss", "loss", None)
    assert "loss function made it" in origin.note


def test_validation_is_not_kept():
    model = Spiky()
    capture = Capture(model)
    with torch.no_grad():
        model(broken())
    assert capture.replay() == (None, UNHEARD)


def test_autocast_is_entered_again():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 1)

        def forward(self, x):
            out = self.head(x)
            return out / 0.0 if out.dtype == torch.bfloat16 else out

    model = Half()
    capture = Capture(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.randn(2, 2))
    output.float().mean().backward()
    assert capture.replay().origin.operation == "aten.div"


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_is_replayed_eagerly(backend):
    model = Spiky()
    compiled = torch.compile(model, backend=backend)
    capture = Capture(compiled)
    make_step(compiled, broken())
    origin = capture.replay().origin
    assert (origin.operation, origin.module) == ("SqrtBackward0", "")


def test_a_model_compiled_whole_after_it_was_attached_still_compiles():
    model = Spiky()
    capture = Capture(model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    make_step(compiled, healthy())
    capture.close()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_model_compiled_after_it_was_attached_is_heard(backend):
    model = Spiky()
    capture = Capture(model)
    compiled = torch.compile(model, backend=backend)
    make_step(compiled, broken())
    origin = capture.replay().origin
    assert (origin.operation, origin.module, origin.rows) == ("SqrtBackward0", "", (2,))
    capture.close()
    assert not compiled._forward_hooks
    assert not compiled._forward_pre_hooks
    torch.compile(model, backend=backend)
    assert not model._forward_hooks


def test_another_model_that_is_compiled_is_left_alone():
    capture = Capture(Spiky())
    compiled = torch.compile(Spiky(), backend="eager")
    assert not compiled._forward_hooks
    capture.close()


def test_a_step_is_not_explained_by_calls_from_before_the_last_one():
    model = Spiky()
    capture = Capture(model)
    make_step(model, broken())
    capture.begins(0)
    capture.begins(1)  # another optimizer, of the same pass
    assert capture.replay().origin is not None
    capture.begins(0)
    assert capture.replay() == (None, UNHEARD)


def pickled(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_is_not_listened_to(copied):
    model = nn.Linear(3, 1)
    capture = Capture(model)
    twin = copied(model)
    make_step(twin, healthy() * math.nan)
    assert capture.replay().note == UNHEARD
    assert torch.equal(twin.weight, model.weight)


def test_close_leaves_no_hook_and_no_batch():
    model = nn.Linear(3, 1)
    capture = Capture(model)
    batch = healthy()
    output = make_step(model, batch)
    capture.close()
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    held = weakref.ref(batch)
    del batch, output
    gc.collect()
    assert held() is None


def test_training_is_bit_identical_while_captured():
    def run(*, captured):
        torch.manual_seed(0)
        model = Spiky()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        capture = Capture(model) if captured else None
        for _ in range(5):
            optimizer.zero_grad()
            make_step(model, healthy())
            if capture is not None:
                capture.replay()
            optimizer.step()
        return [param.detach().clone() for param in model.parameters()]

    assert all(map(torch.equal, run(captured=False), run(captured=True)))


class Pair(nn.Module):
    """Two networks that are called one by one, as in a GAN or by a trainer's step."""

    def __init__(self):
        super().__init__()
        self.body, self.heads = nn.Linear(3, 3), nn.ModuleList([Spiky(), nn.Linear(3, 1)])


def test_parts_of_a_model_that_is_never_called_as_a_whole():
    model = Pair()
    capture = Capture(model)
    hidden = model.body(healthy())
    (model.heads[0](hidden * torch.tensor([[0.0, 1.0, 1.0]])).sum() + model.heads[1](hidden).sum()).backward()
    origin = capture.replay().origin
    assert (origin.phase, origin.operation, origin.module) == ("backward", "SqrtBackward0", "heads.0")
    capture.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_nan_that_one_part_hands_to_the_next_began_in_the_first():
    model = Pair()
    capture = Capture(model)
    with torch.no_grad():
        model.body.bias[1] = math.nan
    model.heads[1](model.body(healthy())).sum().backward()
    assert capture.replay().origin.module == "body"
    batch = healthy()
    batch[1, 1] = math.nan
    model.body.reset_parameters()
    model.heads[1](model.body(batch)).sum().backward()
    assert (capture.replay().origin.phase, capture.replay().origin.rows) == ("input", (1,))


def test_part_that_raises_leaves_the_others_heard():
    model = Pair()
    capture = Capture(model)
    with pytest.raises(RuntimeError):
        model.body(torch.zeros(1, 7))
    batch = healthy()
    batch[0, 0] = math.inf
    model.heads[1](model.body(batch)).sum().backward()
    assert capture.replay().origin.phase == "input"
