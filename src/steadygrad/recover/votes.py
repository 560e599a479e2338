"""What the ranks decide when one of them is in trouble: to go back all together, or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Vote:
    """What one rank wants.

    Attributes:
        kind: why it wants to go back: ``numbers`` (ruined weights or moments), ``skips`` or ``loss``; ``data`` says that
            the skips are the data's fault; ``accept`` that going back hasn't helped; empty, nothing.
        text: the reason, for a person.
        where: names of tensors.
        never: of the optimizer whose steps were left out none has been finite since the guard began.
    """

    kind: str
    text: str
    where: list[str]
    never: bool = False


NO_VOTE = Vote("", "", [])


@dataclass(frozen=True, slots=True)
class Decision:
    """What all ranks do.

    Attributes:
        deed: ``back``, ``accept``, ``none``, or ``off``: no recovery any more.
        text: the reason.
        where: names of tensors.
        undoes: every rank can put back what its last rollback gave up.
        cause: what the copy holds that has ruined the state, so that going back to it is the end.
    """

    deed: str
    text: str = ""
    where: list[str] = field(default_factory=list)
    undoes: bool = False
    cause: list[str] = field(default_factory=list)


def decide(heard: Mapping[int, str], world: int) -> Decision:
    """Judge the votes; made on rank 0, and followed by all.

    Args:
        heard: by rank, a `Vote` as JSON, with the step of the rank's ``copy``, whether it can undo its last
            rollback (``undoes``), and what in the copy is the ``cause``.
        world: number of ranks.
    """
    missing = [rank for rank in range(world) if rank not in heard]
    if missing:
        return Decision("off", f"rank {', '.join(map(str, missing))} had no part in the decision to go back")
    votes = [json.loads(heard[rank]) for rank in range(world)]
    kinds = [vote["kind"] for vote in votes]
    wanted = _reason(kinds)
    if not wanted:
        return Decision("none")
    if wanted == "accept":
        return Decision("accept", undoes=all(vote["undoes"] for vote in votes))
    copies = {vote["copy"] for vote in votes}
    if len(copies) != 1 or None in copies:
        return Decision(
            "off", f"the ranks have copies of different steps: {[vote['copy'] for vote in votes]}"
        )
    asking = [rank for rank, kind in enumerate(kinds) if kind == wanted]
    first = votes[asking[0]]
    who = "" if len(asking) == world else f" (rank {', '.join(map(str, asking[:8]))})"
    cause: list[str] = next((votes[rank]["cause"] for rank in asking if votes[rank]["cause"]), [])
    return Decision("back", f"{first['text']}{who}", first["where"], cause=cause)


def _reason(kinds: list[str]) -> str:
    """What weighs most; skips that one rank knows to be its data's fault weigh nothing."""
    skips = () if "data" in kinds else ("skips",)
    return next((kind for kind in ("numbers", *skips, "loss", "accept") if kind in kinds), "")
