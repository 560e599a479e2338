"""What telling each other who holds what costs, when ranks attach with ``replica_groups``: ``python -m benchmarks.census``.

Rank 0's part is played here, without the others: notes of a transformer in pipeline stages times data-parallel ranks, read,
compared and put together.
"""

from __future__ import annotations

import time
from itertools import product

from steadygrad.ranks import laid_out, misfit, packed, read

PER_STAGE = 200
SIZES = ((2, 1), (8, 1), (8, 8), (16, 16), (16, 64))


def note(rank: int, stages: int, replicas: int, *, cut: bool) -> dict[str, object]:
    """What one rank tells; where its stage is cut over ranks, each has norms of its own."""
    stage = rank % stages
    holders = [stage + stages * i for i in range(replicas)]
    rows = [
        {
            "name": f"layers.{stage * PER_STAGE + i}.attention.query.weight",
            "shape": [4096, 4096],
            "dtype": "bfloat16",
            "trainable": True,
            "group": i % 2,
            "holders": holders,
            "parts": replicas if cut else 1,
            "norm": 64.0 + i / 7 + cut * rank / 3,
        }
        for i in range(PER_STAGE)
    ]
    return {"patterns": ["*"], "matched": [True], "tables": [rows], "policy": "auto()", "rates": []}


def main() -> None:
    """One row for each size."""
    print(
        "| stages | replicas of each | ranks | tensors | a rank's note, kB | word for all, kB | rank 0, s of CPU |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (stages, replicas), cut in product(SIZES, (False, True)):
        if cut and replicas == 1:
            continue
        sent = [packed(note(rank, stages, replicas, cut=cut)) for rank in range(stages * replicas)]
        began = time.thread_time()
        notes = read(sent)
        assert not misfit(notes)
        word = packed({"tables": laid_out(notes)})
        took = time.thread_time() - began
        told = (f"{len(sent[0]) / 1e3:.1f}", f"{len(word) / 1e3:.1f}", f"{took:.2f}")
        how = f"{replicas}{', cut' if cut else ''}"
        print(
            "|",
            " | ".join(map(str, (stages, how, stages * replicas, stages * PER_STAGE, *told))),
            "|",
            flush=True,
        )


if __name__ == "__main__":
    main()
