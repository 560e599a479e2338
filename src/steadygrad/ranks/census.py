"""Which tensors there are on all ranks together, and who holds each: told once, when they meet, and judged on rank 0.

A tensor is the same one on two ranks where its name and the ranks that hold it are; so a name that two pipeline stages have
each for its own tensor is two tensors, told apart by their ranks.

Shape legend: P tensors of all ranks together.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from steadygrad.measure import Layout, ParamTable, own_part, sum_dtype
from steadygrad.ranks.replica_groups import ReplicaGroups
from steadygrad.ranks.shards import parts
from steadygrad.records import TensorInfo

Key: TypeAlias = tuple[str, tuple[int, ...]]
Told: TypeAlias = dict[str, Any]
_MOST_RANKS = 4


def tell(tables: Sequence[ParamTable], groups: ReplicaGroups) -> dict[str, Any]:
    """What this rank holds, for the others: as plain values."""
    told = [
        [told_of(*held, groups) for held in zip(table.tensors, table.params, table.group_of, strict=True)]
        for table in tables
    ]
    matched = {groups.match(one["name"]) for rows in told for one in rows}
    return {
        "patterns": groups.patterns,
        "matched": [i in matched for i in range(len(groups.patterns))],
        "tables": told,
    }


def told_of(info: TensorInfo, param: Tensor, group: int, groups: ReplicaGroups) -> Told:
    """What this rank tells of one tensor.

    Args:
        info: its name, shape and dtype.
        param: itself.
        group: index of its parameter group.
        groups: what was handed in here.
    """
    return {
        "name": info.name,
        "shape": info.shape,
        "dtype": info.dtype,
        "trainable": info.trainable,
        "group": group,
        "holders": groups.holders(info.name, param),
        "parts": parts(param),
        "norm": _norm(param),
    }


def _norm(param: Tensor) -> float:
    if is_lazy(param):
        return 0.0
    part = own_part(param.detach())
    return float(torch.linalg.vector_norm(part, dtype=sum_dtype(part.device, part)))


def packed(note: Mapping[str, Any]) -> str:
    """As text for the store: what repeats itself is written once, so it is a few bytes a tensor.

    Norms are apart: where a stage is cut over ranks they alone differ between its notes, and the rest is read once.

    Args:
        note: with the rows of each optimizer under ``tables``: what `tell` returned, or all ranks together.
    """
    sets: dict[tuple[int, ...], int] = {}
    for one in (one for rows in note["tables"] for one in rows):
        sets.setdefault(tuple(one["holders"]), len(sets))
    tables = [
        [{**one, "holders": sets[tuple(one["holders"])], "norm": None} for one in rows]
        for rows in note["tables"]
    ]
    norms = np.array([one["norm"] for rows in note["tables"] for one in rows], np.float64)
    return f"{_text(json.dumps({**note, 'tables': tables, 'sets': list(sets)}).encode())} {_text(norms.tobytes())}"


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


def _data(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def unpacked(text: str) -> dict[str, Any]:
    """What was `packed`."""
    return read([text])[0]


def read(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Notes of the ranks in their order, empty where one has none; what replicas tell alike is read once."""
    known: dict[str, dict[str, Any]] = {"": {}}
    shared: dict[str, dict[str, Any]] = {}
    for text in texts:
        if text not in known:
            known[text] = _read(text, shared)
    return [known[text] for text in texts]


def _read(text: str, known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    shared, own = text.split(" ")
    if shared not in known:
        known[shared] = _without_norms(shared)
    note = known[shared]
    norms = iter(np.frombuffer(_data(own), np.float64).tolist())
    return {**note, "tables": [[{**one, "norm": next(norms)} for one in rows] for rows in note["tables"]]}


def _without_norms(text: str) -> dict[str, Any]:
    note: dict[str, Any] = json.loads(_data(text))
    sets = [tuple(one) for one in note.pop("sets")]
    for one in (one for rows in note["tables"] for one in rows):
        one["holders"] = sets[one["holders"]]
    return note


def misfit(notes: Sequence[dict[str, Any]]) -> str:
    """Why what the ranks told can't be put together; empty where it can.

    Args:
        notes: what `tell` returned on each rank, in their order, with ``policy`` and ``rates``.
    """
    patterns = [note.get("patterns") for note in notes]
    if any(one != patterns[0] for one in patterns):
        other = next(rank for rank, one in enumerate(patterns) if one != patterns[0])
        return f"expected the same patterns on every rank, got {patterns[0]} on rank 0 and {patterns[other]} on rank {other}"
    return _misnamed(notes) or _unlike(notes) or misheld(notes)


def _misnamed(notes: Sequence[dict[str, Any]]) -> str:
    for i, pattern in enumerate(notes[0]["patterns"]):
        if not any(note["matched"][i] for note in notes):
            return (
                f"expected names of parameters, but {pattern!r} matches none on any rank (or patterns before it match them "
                "all)"
            )
    return ""


def _unlike(notes: Sequence[dict[str, Any]]) -> str:
    """What would lead the ranks to other verdicts."""
    first = notes[0]
    if len({note["policy"] for note in notes}) > 1:
        told = " and ".join(sorted({note["policy"] for note in notes}))
        return f"expected the same policy on every rank, got {told}"
    unlike = [rank for rank, note in enumerate(notes) if note["rates"] != first["rates"]]
    if unlike:
        return (
            f"{first['policy']} sets the step beside the weights of all ranks, so it expected optimizers with the same "
            f"parameter groups (rate, momentum) on every rank, got others on rank {unlike[0]} than on rank 0. Give each of "
            'them the same groups, {"params": []} where a rank has none, or use a policy that needs no weights, such as '
            "steadygrad.policies.clip_norm(1.0)"
        )
    if len({len(note["tables"]) for note in notes}) > 1:
        return "expected as many optimizers on every rank, got another number on some"
    return ""


def misheld(notes: Sequence[dict[str, Any]]) -> str:
    """Why the tensors that the ranks told of can't be; empty where they can.

    Args:
        notes: of each rank, in their order, with ``tables``.
    """
    tables = range(len(notes[0]["tables"]))
    held = (item for table in tables for item in _holdings(notes, table).items())
    return next((why for key, there in held if (why := _wrong(key, there))), "")


def _holdings(notes: Sequence[dict[str, Any]], table: int) -> dict[Key, dict[int, Told]]:
    found: dict[Key, dict[int, Told]] = {}
    for rank, note in enumerate(notes):
        for one in note["tables"][table]:
            found.setdefault((one["name"], tuple(one["holders"])), {})[rank] = one
    return found


def _wrong(key: Key, there: dict[int, Told]) -> str:
    name, holders = key
    strangers = sorted(set(there) - set(holders))
    if strangers:
        group = f"has only ranks {_listed(holders)}" if holders else "doesn't have that rank"
        return f"rank {strangers[0]} holds {name}, but the group handed in for it there {group}"
    missing = sorted(set(holders) - set(there))
    if missing:
        return (
            f"{name} is said to be replicated over ranks {_listed(holders)}, but rank {missing[0]} doesn't hold it, or was "
            "handed in another group for it. Hand in the ranks that do, such as [torch.distributed.get_rank()] for one that no "
            "other rank has"
        )
    kinds = {(tuple(one["shape"]), one["dtype"], one["parts"], one["trainable"]) for one in there.values()}
    if len(kinds) > 1:
        shapes = sorted({str(tuple(one["shape"])) for one in there.values()})
        return (
            f"{name} isn't the same tensor on ranks {_listed(holders)} ({' and '.join(shapes)}; or another dtype or cut), "
            "so it can't be replicated over them. Hand in the ranks that hold the same one"
        )
    return ""


def laid_out(notes: Sequence[dict[str, Any]], taken: AbstractSet[str] = frozenset()) -> list[list[Told]]:
    """The rows of each table, the same for all ranks.

    Args:
        notes: what `tell` returned on each rank, without a `misfit`.
        taken: names that other rows have already.
    """
    return [_rows(notes, table, taken) for table in range(len(notes[0]["tables"]))]


def _rows(notes: Sequence[dict[str, Any]], table: int, taken: AbstractSet[str]) -> list[Told]:
    order: list[Key] = []
    seen: set[tuple[Key, ...]] = set()
    for note in notes:
        own = tuple((one["name"], tuple(one["holders"])) for one in note["tables"][table])
        if own not in seen:  # replicas of a stage hold the same
            seen.add(own)
            order = _woven(order, own)
    holdings = _holdings(notes, table)
    twice = Counter(name for name, _ in order)
    rows = []
    for name, holders in order:
        there = holdings[name, holders]
        first = there[min(there)]
        square = sum(one["parts"] / len(holders) * one["norm"] * one["norm"] for one in there.values())
        label = "rank" if len(holders) == 1 else "ranks"
        told = name if twice[name] == 1 and name not in taken else f"{label} {_listed(holders)}: {name}"
        rows.append({**first, "told": told, "norm": math.sqrt(square)})
    return rows


def _woven(order: list[Key], more: Sequence[Key]) -> list[Key]:
    """Both in one, what is new before the next that was known: so layers stay in the order of their depth."""
    known = set(order)
    before: dict[Key | None, list[Key]] = {}
    run: list[Key] = []
    for key in more:
        if key in known:
            before[key], run = run, []
        else:
            run.append(key)
    if not any(before.values()):
        return order + run
    return [one for key in order for one in (*before.get(key, ()), key)] + run


def layout_for(
    rank: int, rows: Sequence[Told], table: ParamTable, groups: ReplicaGroups, optimizer: int
) -> Layout:
    """One table's rows as this rank needs them.

    Args:
        rank: this one.
        rows: of `laid_out`.
        table: the optimizer's parameters here.
        groups: what was handed in here.
        optimizer: index of the optimizer.
    """
    held = [(info.name, param) for info, param in zip(table.tensors, table.params, strict=True)]
    return layout_of(rank, rows, held, groups, optimizer, table.last_group)


def layout_of(
    rank: int,
    rows: Sequence[Told],
    held: Sequence[tuple[str, Tensor]],
    groups: ReplicaGroups,
    optimizer: int,
    last_group: int,
) -> Layout:
    """Rows as this rank needs them.

    Args:
        rank: this one.
        rows: of `laid_out`.
        held: name and parameter of those of them that are here, in the order in which they were told.
        groups: what was handed in here.
        optimizer: index of the optimizer.
        last_group: index of its last parameter group here; other ranks may have more.
    """
    places = {(row["name"], tuple(row["holders"])): i for i, row in enumerate(rows)}
    slots = [places[name, groups.holders(name, param)] for name, param in held]
    own = [rank in row["holders"] for row in rows]
    return Layout(
        tensors=[
            TensorInfo(row["told"], tuple(row["shape"]), row["dtype"], optimizer, row["trainable"])
            for row in rows
        ],
        slots=slots,
        group_of=[min(row["group"], last_group) for row in rows],
        shares=np.array(
            [mine * row["parts"] / max(1, len(row["holders"])) for mine, row in zip(own, rows, strict=True)]
        ),
        param_norms=np.array([row["norm"] for row in rows], np.float32),
        elsewhere=~np.array(own, np.bool_),
    )


def _listed(ranks: Sequence[int]) -> str:
    if len(ranks) > 1 and list(ranks) == list(range(ranks[0], ranks[-1] + 1)):
        return f"{ranks[0]}-{ranks[-1]}"
    more = ", ..." if len(ranks) > _MOST_RANKS else ""
    return ", ".join(map(str, ranks[:_MOST_RANKS])) + more
