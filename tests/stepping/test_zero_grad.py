"""Were the gradients cleared? Asked of real loops, with and without somebody changing `.grad` on the way."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tests.monitor.workloads import OPTIMIZERS, attach, batches, mlp, seeded
from torch import nn

from steadygrad.stepping import ZeroGradCheck
from steadygrad.stepping.zero_grad import EVIDENCE_STEPS, GIVE_UP_STEPS, _share_of_old

both_paths = pytest.mark.parametrize("late", [False, True], ids=["host", "late"])
STREAM = batches(40)


def loss_of(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def run(body, *, late=False, steps=40, make=mlp, optimizer="SGD"):
    """Kinds found by a guard while `body(model, optimizer, step)` does all of one step."""
    model = seeded(make)
    opt = OPTIMIZERS[optimizer](model.parameters())
    monitor = attach("watch", model, opt, late=late)
    for step in range(steps):
        body(model, opt, step)
    check = monitor._tracks[0]._zero_grad
    return [f for f in monitor.findings if f.kind == "missing_zero_grad"], check, model


def plain(model, optimizer, step, *, clear, clip=None):
    if clear is not None:
        optimizer.zero_grad(set_to_none=clear)
    loss_of(model, STREAM[step]).backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()


@both_paths
@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_loop_that_clears_is_believed_after_two_steps(set_to_none, late):
    found, check, model = run(lambda m, o, s: plain(m, o, s, clear=set_to_none), late=late)
    assert not found
    assert not check.running
    assert not any(param._backward_hooks for param in model.parameters())
    _, check, _ = run(lambda m, o, s: plain(m, o, s, clear=set_to_none), late=late, steps=3 + late)
    assert not check.running


@both_paths
@pytest.mark.parametrize("clip", [None, 1.0, 0.05])
def test_a_forgotten_zero_grad_is_found_within_a_few_steps(clip, late):
    found, check, model = run(lambda m, o, s: plain(m, o, s, clear=None, clip=clip), late=late)
    assert len(found) == 1
    assert found[0].step <= 1
    assert found[0].severity == "warning"
    assert not check.running
    assert not any(param._backward_hooks for param in model.parameters())
    early, _, _ = run(
        lambda m, o, s: plain(m, o, s, clear=None, clip=clip), late=late, steps=EVIDENCE_STEPS + 2 + late
    )
    assert len(early) == 1


@both_paths
def test_a_clip_on_a_loop_that_clears_is_seen_through(late):
    found, check, _ = run(lambda m, o, s: plain(m, o, s, clear=True, clip=0.05), late=late, steps=4 + late)
    assert not found
    assert not check.running


@both_paths
def test_forgetting_it_once_or_twice_is_not_never(late):
    found, check, _ = run(lambda m, o, s: plain(m, o, s, clear=None if s < 3 else True), late=late)
    assert not found
    assert not check.running


@both_paths
@pytest.mark.parametrize("clip", [None, 0.05])
def test_accumulation_of_micro_batches_is_no_evidence(clip, late):
    def body(model, optimizer, step):
        optimizer.zero_grad()
        for k in range(4):
            (loss_of(model, STREAM[(step + k) % 40]) / 4).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    found, _, _ = run(body, late=late)
    assert not found


@both_paths
def test_accumulation_without_ever_clearing_is_found(late):
    def body(model, optimizer, step):
        for k in range(4):
            (loss_of(model, STREAM[(step + k) % 40]) / 4).backward()
        optimizer.step()

    found, _, _ = run(body, late=late)
    assert len(found) == 1


@both_paths
def test_the_same_batch_every_step_is_no_evidence_when_cleared(late):
    found, check, _ = run(lambda m, o, s: plain(m, o, 0, clear=True), late=late)
    assert not found
    assert not check.running


def test_the_same_batch_every_step_is_found_when_not_cleared():
    found, _, _ = run(lambda m, o, s: plain(m, o, 0, clear=None))
    assert len(found) == 1


@both_paths
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("clear", [False, True])
def test_under_a_grad_scaler(clear, unscale, fused, late):
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3)

    def body(model, optimizer, step):
        if clear:
            optimizer.zero_grad()
        scaler.scale(loss_of(model, STREAM[step])).backward()
        if unscale:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()

    found, _, _ = run(body, late=late, optimizer="SGD fused" if fused else "SGD")
    assert len(found) == (not clear)


@both_paths
def test_gradients_averaged_over_ranks_are_no_evidence(late):
    """As DistributedDataParallel does it: `.grad` is neither what came in nor a pile of it."""

    def body(model, optimizer, step):
        optimizer.zero_grad()
        loss_of(model, STREAM[step]).backward()
        others = torch.autograd.grad(loss_of(model, STREAM[(step + 7) % 40]), list(model.parameters()))
        for param, other in zip(model.parameters(), others, strict=True):
            param.grad = (param.grad + other) / 2
        optimizer.step()

    found, check, _ = run(body, late=late)
    assert not found
    assert not check.running


@both_paths
def test_a_forgotten_zero_grad_is_found_where_gradients_are_averaged_over_ranks(late):
    def body(model, optimizer, step):
        old = [None if param.grad is None else param.grad.clone() for param in model.parameters()]
        loss_of(model, STREAM[step]).backward()
        twin = copy.deepcopy(model)
        others = torch.autograd.grad(loss_of(twin, STREAM[(step + 7) % 40]), list(twin.parameters()))
        for param, other, before in zip(model.parameters(), others, old, strict=True):
            # The other rank has added its own gradient to what stood there, which is the same on both.
            param.grad = (param.grad + other + (0.0 if before is None else before)) / 2
        optimizer.step()

    found, check, _ = run(body, late=late, steps=EVIDENCE_STEPS + 2 + late)
    assert len(found) == 1
    assert not check.running


@both_paths
def test_a_network_that_anothers_loss_reaches_before_it_is_cleared_is_no_evidence(late):
    """As the discriminator of a GAN: the generator's loss adds to its gradients, which are cleared before its own."""

    def body(model, optimizer, step):
        loss_of(model, STREAM[(step + 3) % 40]).backward()
        optimizer.zero_grad(set_to_none=False)
        loss_of(model, STREAM[step]).backward()
        for param in model.parameters():
            param.grad = param.grad * 0.5 + 0.1 * torch.randn_like(param)
        optimizer.step()

    found, _, _ = run(body, late=late)
    assert not found


@both_paths
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("clear", [False, True])
def test_non_finite_gradients_prove_nothing(poison, clear, late):
    def body(model, optimizer, step):
        if clear:
            optimizer.zero_grad()
        (loss_of(model, STREAM[step]) * poison).backward()
        optimizer.step()

    found, _, _ = run(body, late=late)
    assert not found


def test_a_gradient_of_zero_proves_nothing():
    def body(model, optimizer, step):
        (loss_of(model, STREAM[step]) * 0.0).backward()
        optimizer.step()

    found, _, _ = run(body)
    assert not found


def test_an_lbfgs_closure_that_clears_is_believed():
    def body(model, optimizer, step):
        def closure():
            optimizer.zero_grad()
            loss = loss_of(model, STREAM[step])
            loss.backward()
            return loss

        optimizer.step(closure)

    found, check, _ = run(body, optimizer="LBFGS", steps=6)
    assert not found
    assert not check.running


@both_paths
@pytest.mark.parametrize("clear", [True, False])
def test_gradients_that_are_only_asked_for_are_not_counted_as_come_in(clear, late):
    def meta_learning(model, optimizer, step):
        params = dict(model.named_parameters())
        inner = torch.autograd.grad(loss_of(model, STREAM[step]), params.values(), create_graph=True)
        fast = {name: params[name] - 0.1 * grad for name, grad in zip(params, inner, strict=True)}
        given, wanted = STREAM[-step - 1]
        if clear:
            optimizer.zero_grad()
        nn.functional.mse_loss(torch.func.functional_call(model, fast, (given,)), wanted).backward()
        torch.autograd.grad(loss_of(model, STREAM[step]), params.values())
        optimizer.step()

    found, _, model = run(meta_learning, late=late)
    assert len(found) == (not clear)
    assert not any(param._backward_hooks or param._post_accumulate_grad_hooks for param in model.parameters())


@both_paths
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("change", ["none", "halved", "noise", "clip", "micro-batches"])
def test_gradients_put_there_by_hand_are_no_evidence(change, in_place, late):
    """`torch.autograd.grad` asks while the old gradient stands in `.grad`; then the new one takes its place."""

    def body(model, optimizer, step):
        params = list(model.parameters())
        total = None
        for k in range(4 if change == "micro-batches" else 1):
            new = torch.autograd.grad(loss_of(model, STREAM[(step + k) % 40]), params)
            total = new if total is None else [a + b for a, b in zip(total, new, strict=True)]
        for param, grad in zip(params, total, strict=True):
            given = {"halved": grad / 2, "noise": grad + torch.randn_like(grad)}.get(change, grad)
            if in_place and param.grad is not None:
                param.grad.copy_(given)
            else:
                param.grad = given
        if change == "clip":
            nn.utils.clip_grad_norm_(params, 0.05)
        optimizer.step()

    found, _, _ = run(body, late=late)
    assert not found


@both_paths
def test_a_pile_from_which_the_script_takes_the_old_gradient_out_again_is_no_evidence(late):
    def body(model, optimizer, step):
        old = [None if param.grad is None else param.grad.clone() for param in model.parameters()]
        loss_of(model, STREAM[step]).backward()
        for param, before in zip(model.parameters(), old, strict=True):
            param.grad = param.grad if before is None else param.grad - before
        optimizer.step()

    found, _, _ = run(body, late=late)
    assert not found


@both_paths
def test_gradients_that_are_asked_for_and_added_by_hand_are_found(late):
    def body(model, optimizer, step):
        params = list(model.parameters())
        new = torch.autograd.grad(loss_of(model, STREAM[step]), params)
        for param, grad in zip(params, new, strict=True):
            param.grad = grad if param.grad is None else param.grad + grad
        optimizer.step()

    found, _, _ = run(body, late=late)
    assert len(found) == 1


def test_a_forgotten_zero_grad_is_found_where_the_step_is_made_in_a_hook_of_the_scripts_own():
    model = seeded(mlp)
    first = next(model.parameters())
    optimizer = torch.optim.SGD([first], lr=0.01)
    first.register_post_accumulate_grad_hook(lambda param: optimizer.step())
    monitor = attach("watch", model, optimizer)
    for batch in STREAM[:8]:
        loss_of(model, batch).backward()
    assert "missing_zero_grad" in {finding.kind for finding in monitor.findings}


def test_two_backward_passes_of_one_loss_and_a_penalty_are_no_evidence():
    def body(model, optimizer, step):
        optimizer.zero_grad()
        x = STREAM[step][0].clone().requires_grad_(True)
        out = model(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        (out.square().mean() + slope.square().mean()).backward()
        optimizer.step()

    found, check, _ = run(body)
    assert not found
    assert not check.running


gradients = st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6).map(lambda x: torch.tensor(x).double())


@given(gradients, gradients, st.sampled_from([0.01, 1.0, 256.0]), st.sampled_from([0.0, 1.0, -0.5]))
@example(1.829945656496206e-29 * torch.eye(6).double()[0], torch.eye(6).double()[0], 0.01, 1.0)
def test_the_share_of_the_old_gradient_is_told_or_not_known(new, old, scale, share):
    found, is_sure = _share_of_old(scale * (new + share * old), new, old, 1e-6)
    assert not is_sure or float(found) == pytest.approx(share, abs=0.1)


def test_the_share_is_known_only_where_nothing_else_came_in_and_the_two_point_apart():
    new, old, other = torch.eye(3, dtype=torch.float64)
    share, is_sure = _share_of_old(0.3 * (new + old), new, old, 1e-6)
    assert is_sure
    assert float(share) == pytest.approx(1.0)
    assert not _share_of_old(0.3 * (new + old) + 0.01 * other, new, old, 1e-6)[1]
    assert not _share_of_old(3.0 * new, new, 2.0 * new, 1e-6)[1]
    assert not _share_of_old(new, new, torch.zeros(3, dtype=torch.float64), 1e-6)[1]
    assert not _share_of_old(new * math.nan, new, old, 1e-6)[1]


def test_the_question_is_dropped_after_a_while():
    check = ZeroGradCheck([torch.nn.Parameter(torch.ones(4))], late=False)
    for _ in range(GIVE_UP_STEPS):
        assert check.running
        assert not check.gradients_ready()
        check.stepped()
    assert not check.running


def test_what_can_not_be_asked_is_left_alone():
    frozen = torch.nn.Parameter(torch.ones(4), requires_grad=False)
    small = torch.nn.Parameter(torch.ones(3))
    assert not ZeroGradCheck([frozen, small, torch.nn.Parameter(torch.empty(0))], late=False).running


@both_paths
def test_sparse_gradients_are_left_alone(late):
    model = nn.Embedding(5, 3, sparse=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = attach("watch", model, optimizer, late=late)
    for step in range(6):
        model(torch.tensor([step % 5, 1])).square().sum().backward()
        optimizer.step()
    assert "switched off" not in monitor.summary()


def test_gradients_that_are_cleared_to_none_need_no_comparison():
    """Even where what stands there at the step isn't what came in, as with DistributedDataParallel."""

    def body(model, optimizer, step):
        optimizer.zero_grad()
        loss_of(model, STREAM[step]).backward()
        for param in model.parameters():
            param.grad = param.grad + torch.randn_like(param)
        optimizer.step()

    found, check, _ = run(body, steps=2)
    assert not found
    assert not check.running
