"""RunInfo, TensorInfo, Finding, Incident, Look and the run's tail as text, and back."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from steadygrad.records import Finding, Incident, Look, Passage, Remedy, RunInfo, TensorInfo
from steadygrad.runfile.finite import dumps, loads


@dataclass(frozen=True, slots=True)
class Tail:
    """How far a run is.

    Attributes:
        steps: readings written.
        last_total_norm: newest total norm.
        last_written: when, seconds since the epoch.
        finished: whether the writer closed the run; False for one that runs or was killed.
        dropped_events: findings and incidents left out to keep the size cap.
    """

    steps: int = 0
    last_total_norm: float = float("nan")
    last_written: float = 0.0
    finished: bool = False
    dropped_events: int = 0


def info_bytes(info: RunInfo) -> bytes:
    """RunInfo without its tensors."""
    return zlib.compress(dumps(_fields(info, skip=("tensors",))).encode())


def tensors_bytes(tensors: Sequence[TensorInfo]) -> bytes:
    """All TensorInfos: ten thousand names that resemble each other deflate well."""
    rows = [[t.name, list(t.shape), t.dtype, t.optimizer, t.trainable] for t in tensors]
    return zlib.compress(dumps(rows).encode())


def read_info(info: bytes, tensors: bytes) -> RunInfo:
    """RunInfo from both parts."""
    data = loads(zlib.decompress(info))
    rows = loads(zlib.decompress(tensors))
    infos = tuple(TensorInfo(name, tuple(shape), *rest) for name, shape, *rest in rows)
    data["versions"] = MappingProxyType(data["versions"])
    for key in ("optimizers", "command"):
        data[key] = tuple(data[key])
    return RunInfo(**data, tensors=infos)


def finding_text(finding: Finding) -> str:
    """Finding as JSON."""
    remedies = [[remedy.action, remedy.code] for remedy in finding.remedies]
    return dumps({**_fields(finding), "remedies": remedies})


def read_finding(text: str) -> Finding:
    """Finding from JSON."""
    data = loads(text)
    data["evidence"] = MappingProxyType(data["evidence"])
    data["remedies"] = tuple(Remedy(*remedy) for remedy in data["remedies"])
    return Finding(**{**data, "where": tuple(data["where"]), "causes": tuple(data["causes"])})


def incident_text(incident: Incident) -> str:
    """Incident as JSON."""
    return dumps(_fields(incident))


def read_incident(text: str) -> Incident:
    """Incident from JSON."""
    incident = Incident(**loads(text))
    return replace(incident, where=tuple(incident.where))


def look_text(look: Look) -> str:
    """Look as JSON; three digits of a norm are more than a picture shows."""
    passages = [
        {**_fields(one), "norms": [float(f"{norm:.3g}") for norm in one.norms]} for one in look.through_time
    ]
    return dumps({**_fields(look), "through_time": passages})


def read_look(text: str) -> Look:
    """Look from JSON."""
    data = loads(text)
    passages = (Passage(**{**one, "norms": tuple(one["norms"])}) for one in data["through_time"])
    return Look(**{**data, "through_time": tuple(passages)})


def tail_text(tail: Tail) -> str:
    """Tail as JSON."""
    return dumps(_fields(tail))


def read_tail(text: str) -> Tail:
    """Tail from JSON."""
    return Tail(**loads(text))


def _fields(record: Any, skip: Sequence[str] = ()) -> Mapping[str, object]:
    return {name: getattr(record, name) for name in record.__slots__ if name not in skip}
