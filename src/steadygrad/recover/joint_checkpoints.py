"""Checkpoints of weights that are cut over several ranks: every rank writes its parts, and all of it counts or nothing.

``torch.distributed.checkpoint`` writes; what is added is that the state of every rank is asked for first, that the
checkpoint before stays whole until this one is, and that a rank which dies is named instead of waited for.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steadygrad.errors import CheckpointFailed, RankLost, UsageError
from steadygrad.ranks import PATIENCE_S as SHORT_S
from steadygrad.ranks import Peers, agree
from steadygrad.recover.checkpoints import Checkpoints
from steadygrad.recover.slots import clear, free_slot, publish

PATIENCE_S = 300.0
"""Longest wait for the others: one rank may look at a validation set first."""
_WRAPPER = "_checkpoint_wrapped_module."


class JointCheckpoints(Checkpoints):
    """One rank's side of checkpoints that all ranks write together; every rank has to call each method.

    Args:
        peers: the ranks.
        args: see `Checkpoints`.
        kwargs: see `Checkpoints`.
    """

    def __init__(self, peers: Peers, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._peers = peers
        self._asked = 0

    def ill(self) -> list[str]:
        """Names of what is no finite number on any rank, the same on every rank."""
        said = self._all_say("healthy", super().ill())
        return [f"{name} (rank {rank})" for rank, names in enumerate(said) for name in names]

    def save(self, path: str | os.PathLike[str], step: int, learnt: Mapping[str, Any]) -> bool:
        """See `steadygrad.Monitor.save`."""
        target = Path(path)
        if self._refuses(target, step):
            return False
        with self._all_or_none("save", target) as slot:
            parts = self._parts(step, learnt)
            self._all_well("save", "")  # nobody waits in there for one who never comes
            self._write(parts, slot)
        return True

    def _write(self, parts: dict[str, Any], slot: Path) -> None:
        _write_sharded(parts, slot)

    @contextmanager
    def protect(self, path: str | os.PathLike[str], step: int) -> Iterator[Path]:
        """See `steadygrad.Monitor.protect`."""
        target = Path(path)
        with self._all_or_none("protect", target, lambda: not self._refuses(target, step)) as slot:
            yield slot

    @contextmanager
    def _all_or_none(
        self, call: str, target: Path, accept: Callable[[], bool] = lambda: True
    ) -> Iterator[Path]:
        """Write to the path given inside, on every rank; then it takes the place of ``target``."""
        slot = Path(self._on_first(call, lambda: _made_free(target)))
        try:
            yield slot
        except (CheckpointFailed, RankLost):  # all know it already
            raise
        except Exception as error:
            self._tell(call, error)
            raise
        self._all_well(call, "")
        accepted = accept()
        self._on_first(call, lambda: _put(call, slot, target) if accepted else clear(slot))

    def _tell(self, call: str, error: Exception) -> None:
        """Have the others hear of an error here, and see whether one of them is the cause."""
        said = self._heard(call, [f"{type(error).__name__}: {error}", ""], SHORT_S)
        lost = [rank for rank, one in enumerate(said) if one is None]
        if lost and isinstance(error, RuntimeError):  # what torch says where a connection breaks
            raise self._peers.lost(lost) from error

    def _on_first(self, call: str, deed: Callable[[], object]) -> str:
        """Done by rank 0, while the others wait; what it returns is told to all."""
        made, error = "", ""
        if self._peers.rank == 0:
            try:
                made = str(deed())
            except Exception as fault:  # noqa: BLE001 - the others have to hear of it, whatever it is
                error = str(fault)
        return self._all_well(call, error, made)

    def _all_well(self, call: str, error: str, made: str = "") -> str:
        said = self._all_say(call, [error, made])
        errors = [f"rank {rank}: {one}" for rank, (one, _) in enumerate(said) if one]
        if errors:
            raise CheckpointFailed(f"{call}(): {'; '.join(errors)}. The checkpoint before is untouched.")
        told: str = said[0][1]
        return told

    def _all_say(self, call: str, own: object) -> list[Any]:
        said = self._heard(call, own, PATIENCE_S)
        missing = [rank for rank, one in enumerate(said) if one is None]
        if missing:
            raise self._peers.lost(
                missing, f"{call} needs every rank, since each holds a part of the weights. "
            )
        return said

    def _heard(self, call: str, own: object, patience_s: float) -> list[Any]:
        """What each rank says; None of one that doesn't come."""
        self._asked += 1
        world = self._peers.world
        answer = agree(
            self._peers,
            f"checkpoint/{self._asked}/{call}",
            json.dumps(own),
            lambda heard: json.dumps([json.loads(heard.get(rank, "null")) for rank in range(world)]),
            unheard=json.dumps([None, *[""] * (world - 1)]),
            patience_s=patience_s,
        )
        said: list[Any] = json.loads(answer)
        return said

    def _parts(self, step: int, learnt: Mapping[str, Any]) -> dict[str, Any]:
        """As ``torch.distributed.checkpoint.state_dict.get_state_dict`` names it; what isn't, as bytes."""
        from torch.distributed.checkpoint.state_dict import get_model_state_dict  # noqa: PLC0415 - slow to load

        model = self._model()
        whole = self._everything(step, learnt)
        apart = {
            key: whole[key] for key in whole if key not in {"model", "optimizers", "guard", "step", "format"}
        }
        return {
            "format": whole["format"],
            "step": step,
            "model": {} if model is None else get_model_state_dict(model),
            "optimizers": self._optimizers(whole["optimizers"]),
            "guard": _as_bytes(whole["guard"]),
            f"rank{self._peers.rank}": _as_bytes(apart),
        }

    def _optimizers(self, states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        names = {id(param): name.replace(_WRAPPER, "") for name, param in self._state.params().items()}
        found: dict[str, Any] = {"state": {}, "param_groups": []}
        for optimizer, saved in zip(self._state.optimizers, states, strict=True):
            held: list[Tensor] = [param for group in optimizer.param_groups for param in group["params"]]
            numbered = [number for group in saved["param_groups"] for number in group["params"]]
            name_of = {number: names[id(param)] for number, param in zip(numbered, held, strict=True)}
            found["state"].update({name_of[number]: entry for number, entry in saved["state"].items()})
            found["param_groups"] += [
                {**group, "params": [name_of[number] for number in group["params"]]}
                for group in saved["param_groups"]
            ]
        return found


def _write_sharded(parts: dict[str, Any], folder: Path) -> None:
    from torch.distributed.checkpoint.api import CheckpointException  # noqa: PLC0415 - as above
    from torch.distributed.checkpoint.state_dict_saver import save  # noqa: PLC0415 - as above

    try:
        save(parts, checkpoint_id=folder)
    except CheckpointException as error:  # is raised on every rank
        told = "; ".join(f"rank {rank}: {fault[0]}" for rank, fault in error.failures.items())
        raise CheckpointFailed(f"save(): {told}. The checkpoint before is untouched.") from error


def _made_free(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    slot = free_slot(target)
    clear(slot)
    return slot


def _put(call: str, slot: Path, target: Path) -> None:
    if not slot.exists():
        raise UsageError(
            f"nothing was written to the path that {call}({str(target)!r}) gave. Use it like "
            f"`with guard.protect({str(target)!r}) as folder: dcp.save(state, checkpoint_id=folder)`, on every rank"
        )
    publish(slot, target)


def _as_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
