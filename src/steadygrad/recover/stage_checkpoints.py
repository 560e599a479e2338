"""Checkpoints of ranks that hold different tensors: a file each, in one folder, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from steadygrad.calling import tensors_in
from steadygrad.errors import UsageError
from steadygrad.measure import is_sharded
from steadygrad.recover.checkpoints import reads_back
from steadygrad.recover.joint_checkpoints import JointCheckpoints


class StageCheckpoints(JointCheckpoints):
    """One rank's side of a folder with ``rank0.pt``, ``rank1.pt`` and so on, each as one process would save its own.

    Two pipeline stages may have one name for two tensors, which ``torch.distributed.checkpoint`` would take for one.
    """

    def _parts(self, step: int, learnt: Mapping[str, Any]) -> dict[str, Any]:
        whole = self._everything(step, learnt)
        if any(map(is_sharded, tensors_in(whole))):
            raise UsageError(
                "save(): stages whose weights are DTensors can't be written as one file a rank. Write them with `with "
                "guard.protect(path) as folder: torch.distributed.checkpoint.save(state, checkpoint_id=folder / stage, "
                "process_group=group)`, with the ranks of each stage as the group"
            )
        return whole

    def _write(self, parts: dict[str, Any], slot: Path) -> None:
        slot.mkdir(parents=True, exist_ok=True)
        file = slot / f"rank{self._peers.rank}.pt"
        torch.save(parts, file)
        reads_back(file)
