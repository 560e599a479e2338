"""Which image files and which terms of the loss: what Ultralytics knows of a batch, kept for a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steadygrad.detect.finding import MAX_WHERE, listed
from steadygrad.records import Finding

STEPS_KEPT = 3
"""Steps whose batches are remembered: on an accelerator a step is judged one step late."""

_LABELS = ("bboxes", "keypoints", "cls")
_ROW = "first batch row"
"""Where a traced step's finding keeps the first row of the batch that carries the fault."""


@dataclass(slots=True)
class _MicroBatch:
    """One batch of the loader: small tensors only, on their device, unread."""

    files: tuple[str, ...]
    images: Tensor
    labels: dict[str, Tensor]
    image_of_label: Tensor | None
    terms: dict[str, Tensor] = field(default_factory=dict)


class Batches:
    """The batches of the newest steps, and what they tell of a finding."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, list[_MicroBatch]]] = deque(maxlen=STEPS_KEPT)
        self._open: list[_MicroBatch] = []

    def note(self, batch: Mapping[str, Any]) -> None:
        """A batch goes into the model."""
        images = batch["img"].detach()
        self._open.append(
            _MicroBatch(
                files=tuple(map(str, batch.get("im_file", ()))),
                # A sum is finite where every pixel is; one small number an image, and nothing waits for it.
                images=images.flatten(1).sum(1, dtype=torch.float32),
                labels={name: batch[name] for name in _LABELS if isinstance(batch.get(name), Tensor)},
                image_of_label=batch.get("batch_idx"),
            )
        )

    def lost(self, terms: Mapping[str, Tensor]) -> None:
        """The loss of the batch noted last, term by term."""
        if self._open:
            self._open[-1].terms = {name: value.detach() for name, value in terms.items()}

    def stepped(self, step: int) -> None:
        """A step is made of the batches noted since the last one."""
        self._steps.append((step, self._open))
        self._open = []

    def told(self, finding: Finding) -> Finding:
        """The finding, with image files and terms of the loss where it is about a non-finite number."""
        if not finding.kind.startswith("nonfinite_"):
            return finding
        batches = next((batches for step, batches in self._steps if step == finding.step), [])
        terms = list(dict.fromkeys(name for one in batches for name in _nonfinite(one.terms)))
        pixels = [name for one in batches for name in _named(one, _broken_images(one))]
        labels = [name for one in batches for name in _named(one, _broken_labels(one))]
        traced = [] if pixels or labels else _traced(finding, batches)
        parts = [
            _part("NaN or Inf in the pixels of", pixels),
            _part("NaN or Inf in the labels of", labels),
            _part("carried by", traced),
            _part("loss terms", terms),
        ]
        known = "; ".join(part for part in parts if part)
        if not known:
            return finding
        files = tuple(dict.fromkeys([*pixels, *labels, *traced]))
        room = max(0, MAX_WHERE - len(files))
        summary = f"{finding.summary.rstrip('.')}; {known}."
        return replace(finding, summary=summary, where=(*finding.where[:room], *files[:MAX_WHERE]))


def _part(what: str, names: list[str]) -> str:
    return f"{what} {listed(names)}" if names else ""


def _nonfinite(terms: Mapping[str, Tensor]) -> Iterable[str]:
    return (name for name, value in terms.items() if not bool(torch.isfinite(value).all()))


def _broken_images(batch: _MicroBatch) -> list[int]:
    return _indices(~torch.isfinite(batch.images))


def _broken_labels(batch: _MicroBatch) -> list[int]:
    owners = batch.image_of_label
    broken: set[int] = set()
    for label in batch.labels.values():
        rows = ~torch.isfinite(label.reshape(len(label), -1)).all(1) if len(label) else torch.zeros(0).bool()
        # Without owners there is one label an image, in order.
        found = _indices(rows) if owners is None else owners.reshape(-1)[rows].tolist()
        broken.update(map(int, found))
    return sorted(broken)


def _traced(finding: Finding, batches: list[_MicroBatch]) -> list[str]:
    """The image that a replay has found; it looks at the newest batch of a step first."""
    row = finding.evidence.get(_ROW)
    return [] if row is None or not batches else _named(batches[-1], [int(row)])


def _indices(flags: Tensor) -> list[int]:
    return [int(i) for i in flags.nonzero().flatten().tolist()]


def _named(batch: _MicroBatch, indices: list[int]) -> list[str]:
    files = batch.files
    return [_short(files[i]) if i < len(files) else f"image {i} of the batch" for i in indices]


def _short(file: str) -> str:
    """The last folders of a path: enough to find it, and short enough to read."""
    return str(Path(*Path(file).parts[-3:]))
