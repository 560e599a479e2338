"""The sentence in the documentation of whose NaN it was is the one that every rank says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from steadygrad.forensics import Forensics
from steadygrad.origin import Origin
from steadygrad.ranks import Peers, Ranks, tell_rank
from steadygrad.ranks.letter import Letter
from steadygrad.ranks.seen import Seen
from steadygrad.records import Finding

DOCS = Path(__file__).parents[2] / "docs" / "howto" / "ranks.md"
WORLD, GUILTY, STEP = 8, 3, 912


def said_by(rank, monkeypatch, heard):
    """What a rank says of a step whose NaN is in the batch of rank 3; `heard` stands for the store of the process group."""

    def exchange(peers, about, own):
        heard[peers.rank] = own
        return heard

    origin = Origin("input", "nan", "input", None, rows=(5, 9)) if rank == GUILTY else None
    peers = Peers(rank, WORLD, "docs", replicated=False)
    forensics = Forensics(torch.nn.Linear(1, 1), guarded=False)
    monkeypatch.setattr("steadygrad.forensics.exchange", exchange)
    monkeypatch.setattr(forensics.capture, "replay", lambda: (origin, ""))
    forensics.look(0, STEP, peers)
    told = forensics.told(Finding("nonfinite_gradient", "error", STEP, (), "NaN in 4 of 4 gradients"))
    ranks = Ranks(peers, [torch.ones(1)], late=False)
    norms = [math.nan if one == GUILTY else 1.0 for one in range(WORLD)]
    words = sum(np.array(Letter(one, WORLD, norm=norm).on_host()) for one, norm in enumerate(norms))
    ranks._seen.append(Seen(STEP, words, WORLD))
    return str(tell_rank([ranks], told))


def test_the_documented_sentence_is_what_each_rank_says(monkeypatch):
    heard = {}
    guilty, other = said_by(GUILTY, monkeypatch, heard), said_by(0, monkeypatch, heard)
    assert other in DOCS.read_text().splitlines()
    assert guilty == other.replace("nonfinite_gradient", "nonfinite_input")
