"""Read the runs of a folder when somebody asks for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from steadygrad.report.metrics.families import COUNTERS, Sample, families
from steadygrad.report.vitals import take_vitals
from steadygrad.runfile.following import DAMAGE, FolderFollower, Follower, names_a_run


class RunCollector(Collector):
    """The runs in a folder, or one run, read from their files alone.

    A file is read again when it changed since it was last asked for; of each the numbers of its steps are
    held in memory, but no norms of tensors.

    Args:
        place: a folder or a run file; it may not be there yet.
    """

    def __init__(self, place: Path) -> None:
        self._folder = None if names_a_run(place) else FolderFollower(place)
        self._open = {} if self._folder else {str(place): _Watched(str(place))}
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families, as of now."""
        with self._lock:
            if self._folder is not None:
                self._folder.look()
                paths = [run.path for run in self._folder.runs]
                self._open = {path: self._open.get(path) or _Watched(path) for path in paths}
            samples = [sample for one in self._open.values() if (sample := one.sample()) is not None]
        yield from families(sorted(samples, key=lambda one: one.file), time.time())


class _Watched:
    """One run file, and the highest each of its counters was."""

    def __init__(self, path: str) -> None:
        self._follower = Follower(path, keep_norms=False)
        self._sample: Sample | None = None

    def sample(self) -> Sample | None:
        """How the run is doing; None for one that can't be read."""
        if self._follower.look():
            try:
                self._sample = self._take()
            except DAMAGE:
                self._sample = None
        return self._sample

    def _take(self) -> Sample | None:
        run, before = self._follower.run, self._sample
        if run is None or self._follower.fault:
            return None
        vitals = take_vitals(run)
        counts = {name: float(read(vitals)) for name, (_, read) in COUNTERS.items()}
        if before is not None and before.info.started == run.info.started:
            # Two clipped steps that come to share a row count once from then on; a counter must not fall.
            counts = {name: max(count, before.counts[name]) for name, count in counts.items()}
        file = Path(self._follower.path).name
        return Sample(file, run.info, vitals, counts, run.finished, vitals.last_step_s)
