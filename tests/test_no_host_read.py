"""On an accelerator the host never waits: counted at the dispatcher, with that path forced on the CPU."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests.monitor.workloads import OPTIMIZERS, attach, batches, mlp, seeded, step
from torch.utils._python_dispatch import TorchDispatchMode

from steadygrad.measure import LateReads
from steadygrad.policies import (
    adagc,
    agc,
    auto,
    autoclip,
    chain,
    clip_norm,
    clip_value,
    relative_update,
    steady,
    zclip,
)
from steadygrad.recover import rollback

WAITS = {
    "_local_scalar_dense",
    "is_nonzero",
    "equal",
    "item",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "bincount",
}
POLICIES = {
    "auto": auto,
    "clip_norm": lambda: clip_norm(0.5),
    "clip_value": lambda: clip_value(0.01),
    "agc": agc,
    "autoclip": autoclip,
    "zclip": zclip,
    "adagc": lambda: adagc(warmup_steps=2),
    "relative_update": lambda: relative_update(1e-4),
    "steady": steady,
    "chain": lambda: chain(zclip(), adagc(warmup_steps=0), agc(), clip_norm(0.5)),
}


class HostReads(TorchDispatchMode):
    """Counts what would make the host wait for the device."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in WAITS:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def copies(monkeypatch):
    """Packets sent to the host: the only copy that is allowed."""
    sent = []
    send = LateReads.send

    def counting(self, packet, note):
        sent.append(packet.numel())
        send(self, packet, note)

    monkeypatch.setattr(LateReads, "send", counting)
    return sent


def reads_in_a_step(model, optimizer, batch):
    """Host reads between the first pre-hook and the end of `step`."""
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(batch[0]), batch[1]).backward()
    with HostReads() as reads:
        optimizer.step()
    return reads.seen


def workload(name):
    model = seeded(mlp)
    make = OPTIMIZERS[name]
    # Fused kernels count their steps in tensors; others read them on the host, but that is torch's own.
    return model, make(model.parameters())


def own_reads(name, attach_it, steps=8):
    """Reads that a monitor adds to those of the optimizer itself, step by step."""
    plain, without = workload(name)
    model, optimizer = workload(name)
    attach_it(model, optimizer)
    stream = batches(steps + 1)
    step(plain, without, stream[0])
    step(model, optimizer, stream[0])
    return [
        len(reads_in_a_step(model, optimizer, batch)) - len(reads_in_a_step(plain, without, batch))
        for batch in stream[1:]
    ]


FUSED = ["SGD fused", "Adam fused", "AdamW fused", "AdamW amsgrad fused", "Adagrad fused"]
FIRST_ORDER = [name for name in OPTIMIZERS if not name.startswith("LBFGS")]


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_watching_reads_nothing(name, copies):
    assert own_reads(name, partial(attach, "watch", late=True, overhead=1.0)) == [0] * 8


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["AdamW fused", "SGD fused"])
def test_guarding_a_fused_optimizer_reads_nothing(name, policy):
    guard = partial(attach, "guard", policy=POLICIES[policy](), late=True, overhead=1.0)
    assert own_reads(name, guard) == [0] * 8


@pytest.mark.parametrize("name", FUSED)
def test_the_default_guard_of_every_fused_optimizer_reads_nothing(name):
    assert own_reads(name, partial(attach, "guard", late=True)) == [0] * 8


@pytest.mark.parametrize("policy", ["auto", "clip_norm", "steady"])
@pytest.mark.parametrize("name", ["SGD momentum", "AdamW", "RMSprop"])
def test_guarding_an_unfused_optimizer_reads_one_flag(name, policy):
    guard = partial(attach, "guard", policy=POLICIES[policy](), late=True)
    assert own_reads(name, guard) == [1] * 8


@pytest.mark.parametrize("name", FUSED)
def test_copying_the_state_reads_nothing(name):
    def guard(model, optimizer):
        attach("guard", model, optimizer, late=True, recover=rollback(every=1))

    assert own_reads(name, guard, steps=30) == [0] * 30


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_and_a_compiled_step_read_nothing(backend):
    def reads(*, guarded):
        model, optimizer = workload("AdamW fused")
        compiled = torch.compile(model, backend=backend)
        step_ = torch.compile(optimizer.step, backend="eager")
        guard = attach("guard", compiled, optimizer, clip_norm(0.05), late=True) if guarded else None
        counted = []
        for x, y in batches(6):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(compiled(x), y).backward()
            with HostReads() as seen:
                step_()
            counted.append(len(seen.seen))
        assert guard is None or len(guard.recent) == len(counted)
        torch._dynamo.reset()
        return counted

    assert reads(guarded=True) == reads(guarded=False)


def test_one_packet_a_step_is_copied(copies):
    model, optimizer = workload("AdamW fused")
    guard = attach("guard", model, optimizer, late=True, overhead=0.0)
    guard._tracks[0]._zero_grad.close()
    for batch in batches(5):
        step(model, optimizer, batch)
    parameters = len(list(model.parameters()))
    assert len(copies) == 5
    assert max(copies) <= 2 + 2 * parameters


@pytest.mark.parametrize(
    "read",
    [float, bool, lambda x: x.item(), lambda x: x.equal(x), lambda x: x.nonzero()],
    ids=["float", "bool", "item", "equal", "nonzero"],
)
def test_the_counter_sees_a_read(read):
    with HostReads() as reads:
        read(torch.ones(()))
    assert reads.seen


def test_the_comparison_sees_a_policy_that_reads():
    class Reading(type(clip_norm(1.0))):
        def scale(self, measurement):
            return super().scale(measurement) if measurement.total_norm > 0.0 else None

    assert min(own_reads("AdamW fused", partial(attach, "guard", policy=Reading(0.5), late=True))) == 1


def test_the_host_path_is_told_apart():
    assert min(own_reads("AdamW fused", partial(attach, "guard", late=False))) > 0
