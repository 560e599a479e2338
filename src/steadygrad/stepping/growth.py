"""Parameters that join an optimizer: every part that has a row for each parameter takes note."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from steadygrad.containment import Containment
from steadygrad.measure import ParamTable
from steadygrad.policies.base import Policy
from steadygrad.records import FloatArray, TensorInfo
from steadygrad.stepping.aftermath import REPORTING
from steadygrad.stepping.lane import Lane
from steadygrad.stepping.lookout import Lookout
from steadygrad.stepping.plain import host_norm
from steadygrad.stepping.shielded import PART
from steadygrad.stepping.strangers import Strangers

_JOINING = "meeting of the ranks on parameters that have joined"


class Growth:
    """Brings table, lane, policy and detectors of one optimizer up to its parameters.

    Args:
        table: the parameters.
        lane: measures them.
        policy: meets them; None only watches.
        lookout: has detectors look at them.
        strangers: those that other ranks have to be told of.
        containment: holds back faults of steadygrad's own.
        announce: receives the rows that were appended.
    """

    def __init__(
        self,
        table: ParamTable,
        lane: Lane,
        policy: Policy | None,
        lookout: Lookout,
        strangers: Strangers,
        containment: Containment,
        announce: Callable[[Sequence[TensorInfo]], None],
    ) -> None:
        self._table, self._lane, self._lookout = table, lane, lookout
        self._policy = policy if policy is not None and policy.needs_param_norms else None
        self.strangers = strangers
        self._contained = containment.run
        self._announce = announce
        self.meet_parameters()

    def meet_parameters(self) -> None:
        """Have the policy meet them."""
        if self._policy is not None:
            self._contained(PART, self._prepare, self._policy)

    def follow(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """The groups hold other parameters than the table knows."""
        # Where ranks hold different tensors this one may be alone in this, and none of them may learn a step earlier.
        if self._table.layout is None:
            self._lane.catch_up()
        added = self._table.extend(groups)
        self._contained(REPORTING, self.strangers.look)
        self._take_note(added)

    def admit(self) -> None:
        """A step has ended on all ranks, and parameters have joined on one of them: all append rows for them."""
        self._lane.catch_up()
        added = self._contained(_JOINING, self.strangers.admit)
        if added:
            self._take_note(added)
            self._lane.look_again()

    def _take_note(self, added: Sequence[TensorInfo]) -> None:
        self._lane.grow()
        self.meet_parameters()
        if added:
            self._lookout.extend(added)
            self._contained(REPORTING, self._announce, added)

    def _prepare(self, policy: Policy) -> None:
        policy.prepare(self._table.tensors, self._weights())

    def _weights(self) -> FloatArray:
        layout = self._table.layout
        if layout is None:
            norms: FloatArray = torch.stack([host_norm(param) for param in self._table.params]).numpy()
            return norms
        newest = self._lane.newest_param_norms
        # Of rows that have just been appended there are only those that the ranks have told each other.
        known = layout.param_norms[:0] if newest is None else newest.cpu().numpy()
        return np.concatenate([known, layout.param_norms[len(known) :]])
