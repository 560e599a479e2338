"""What may happen in a training: ``do_`` before its step, ``then_`` after it."""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from tests.monitor.plain import canon, told, without_copies
from tests.monitor.programs import Net
from torch import Tensor, nn, optim

import steadygrad as sg
from steadygrad.monitor import Monitor


class Happenings:
    """A training to which things happen; whoever drives it has these."""

    net: Net
    opts: list[optim.Optimizer]
    guard: Monitor
    folder: Path
    notes: list[Any]
    saved: dict[str, Any]
    attach: Callable[[], None]
    batch: Callable[[int], tuple[Tensor, Tensor]]

    def do_rate_up(self, i: int) -> None:
        self._rates(100.0)

    def then_rate_up(self, i: int) -> None:
        self._rates(0.01)

    def do_rate_stays(self, i: int) -> None:
        self._rates(3.0)

    def do_rate_down(self, i: int) -> None:
        self._rates(0.5)

    def do_scheduled(self, i: int) -> None:
        self._rates(0.999)

    def _rates(self, factor: float) -> None:
        for opt in self.opts:
            for group in opt.param_groups:
                group["lr"] *= factor

    def do_momentum(self, i: int) -> None:
        for opt in self.opts:
            for group in opt.param_groups:
                if group.get("momentum"):
                    group["momentum"] = 0.8

    def do_nan_weight(self, i: int) -> None:
        with torch.no_grad():
            self.net.layers[-1].weight[0, 0] = math.nan

    def do_flipped_weight(self, i: int) -> None:
        with torch.no_grad():
            self.net.layers[-1].weight[0, 0] = 1e12

    def do_nan_buffer(self, i: int) -> None:
        for buffer in self.net.buffers():
            if buffer.is_floating_point():
                buffer[0] = math.nan

    def do_add_group(self, i: int) -> None:
        if self.net.extra is None:
            self.net.extra = nn.Parameter(torch.zeros(1))
            self.opts[0].add_param_group({"params": [self.net.extra]})

    def _replace(self, make: Callable[[], nn.Linear]) -> None:
        old = self.net.layers[-1]
        new = make()
        self.net.layers[-1] = new
        for group in self.opts[0].param_groups:
            for k, param in enumerate(group["params"]):
                for a, b in ((old.weight, new.weight), (old.bias, new.bias)):
                    if param is a:
                        group["params"][k] = b
                        self.opts[0].state.pop(a, None)

    def do_replace(self, i: int) -> None:
        old = self.net.layers[-1]
        self._replace(lambda: nn.Linear(old.in_features, old.out_features))

    def do_freeze(self, i: int) -> None:
        self.net.layers[0].requires_grad_(False)
        self.net.layers[0].weight.grad = self.net.layers[0].bias.grad = None

    def do_thaw(self, i: int) -> None:
        self.net.layers[0].requires_grad_(True)

    def states(self) -> list[Any]:
        """Of the optimizers, by position and not by name: after a layer was replaced torch may find no name for all of it."""
        return [
            [canon(opt.state.get(param, {})) for group in opt.param_groups for param in group["params"]]
            for opt in self.opts
        ]

    def do_save(self, i: int) -> None:
        try:
            opts = [opt.state_dict() for opt in self.opts]
        except KeyError:
            return
        self.saved = copy.deepcopy(
            {"net": self.net.state_dict(), "opts": opts, "guard": self.guard.state_dict()}
        )

    def do_load_net(self, i: int) -> None:
        if self.saved and self.net.state_dict().keys() == self.saved["net"].keys():
            self.net.load_state_dict(self.saved["net"])

    def do_load_opts(self, i: int) -> None:
        if self.saved and all(
            len(a["param_groups"]) == len(b.param_groups)
            for a, b in zip(self.saved["opts"], self.opts, strict=True)
        ):
            for state, opt in zip(self.saved["opts"], self.opts, strict=True):
                opt.load_state_dict(copy.deepcopy(state))

    def do_load_guard(self, i: int) -> None:
        if self.saved:
            try:
                self.guard.load_state_dict(self.saved["guard"])
            except sg.errors.UsageError as error:
                self.notes.append((i, "refused", str(error)))

    def then_ask_last(self, i: int) -> None:
        self.notes.append((i, "last", canon(self.guard.last)))

    def then_ask_findings(self, i: int) -> None:
        self.notes.append((i, "findings", sorted(map(told, self.guard.findings))))

    def then_ask_summary(self, i: int) -> None:
        self.notes.append((i, "summary", without_copies(self.guard.summary(), self.folder)))

    def then_ask_policy(self, i: int) -> None:
        policy = self.guard.policy
        self.notes.append(
            (i, "policy", None if policy is None else (policy.explain(), canon(policy.state_dict())))
        )

    def then_ask_counts(self, i: int) -> None:
        self.notes.append((i, "counts", repr(self.guard.counts)))

    def then_ask_state(self, i: int) -> None:
        self.notes.append((i, "state", canon(self.guard.state_dict())))

    def then_ask_repr(self, i: int) -> None:
        self.notes.append((i, "repr", repr(self.guard)[:40]))

    def do_ask_last(self, i: int) -> None:
        self.then_ask_last(i)

    def do_copy(self, i: int) -> None:
        copied = copy.deepcopy(self.net)
        copied(self.batch(i)[0])

    def do_attach_anew(self, i: int) -> None:
        self.guard.close()
        self.attach()

    def do_as_context(self, i: int) -> None:
        with self.guard:
            pass
        self.attach()

    def then_evaluate(self, i: int) -> None:
        self.net.eval()
        with torch.no_grad():
            for k in range(5):
                out = self.net(self.batch(5000 + k)[0])
                self.guard.log(val=out.mean())
        self.net.train()

    def then_log_many(self, i: int) -> None:
        for k in range(300):
            self.guard.log(many=float(k))

    def then_log_nan(self, i: int) -> None:
        self.guard.log(loss=math.nan)

    def then_log_large(self, i: int) -> None:
        self.guard.log(loss=1e6)

    def do_collect(self, i: int) -> None:
        gc.collect()

    def do_deliver(self, i: int) -> None:
        with suppress(KeyError):
            self.opts[0].state_dict()


EVENTS = (
    *("spike10", "spike100", "spike1e20", "spike0", "spike0.01", "nan batch", "drop grads", "zeroed"),
    *("nan weight", "flipped weight", "nan buffer"),
    *("rate up", "rate stays", "rate down", "scheduled", "momentum"),
    *("add group", "replace", "freeze", "thaw"),
    *("save", "load net", "load opts", "load guard", "copy", "collect", "deliver"),
    *("clip", "no step", "left out", "hook raises", "closure raises", "attach anew", "as context"),
    *("ask last", "ask findings", "ask summary", "ask policy", "ask counts", "ask state", "ask repr"),
    *("evaluate", "log in closure", "log many", "log nan", "log large"),
)
