"""Whose process is gone, and whose only doesn't answer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident

import pytest
from torch.distributed import TCPStore

from steadygrad.ranks.peers import Peers, has_ended

PREFIX = "steadygrad/silence"


class Counting:
    """A store that counts what it is asked."""

    def __init__(self, store):
        self.store, self.asked = store, 0

    def __getattr__(self, name):
        def ask(*args):
            self.asked += 1
            return getattr(self.store, name)(*args)

        return ask


@pytest.fixture
def stores():
    """A client of one store for each of 16 ranks, which are threads here."""
    served = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    return [Counting(TCPStore("127.0.0.1", served.port, is_master=False)) for _ in range(15)] + [
        Counting(served)
    ]


def ask_all(stores, world, silent, monkeypatch):
    """What every rank that answers is told, and how often the store was asked."""
    for one in stores:
        one.asked = 0
    thread = {}
    monkeypatch.setattr("steadygrad.ranks.peers.store_of_all", lambda: stores[thread[get_ident()]])

    def ask(rank):
        thread[get_ident()] = rank
        return Peers(rank, world, PREFIX, replicated=True).silent(f"{world} {silent}", 1.5)

    with ThreadPoolExecutor(world) as pool:
        told = list(pool.map(ask, [rank for rank in range(world) if rank not in silent]))
    return told, sum(one.asked for one in stores)


@pytest.mark.parametrize("silent", [[], [0], [2], [0, 1, 3]])
def test_all_hear_who_is_silent_and_ask_little(stores, silent, monkeypatch):
    for world in (4, 8, 16):
        told, asked = ask_all(stores, world, silent, monkeypatch)
        assert told == [silent] * (world - len(silent))
        assert asked <= 9 * world  # each asking each would be 15 times 16


def test_whoever_was_to_tell_is_gone_too(stores, monkeypatch):
    """The first to lose patience dies before it has told: the next one does."""
    stores[0].set(f"{PREFIX}/here/3 [1]/reads", "1")
    told, _ = ask_all(stores, 3, [1], monkeypatch)
    assert told == [[1], [1]]


def test_the_rank_that_serves_no_store_may_be_silent_and_another_dead(stores, monkeypatch):
    """Under torchrun the store isn't rank 0's: what it knows of processes tells who has died."""
    monkeypatch.setattr("steadygrad.ranks.peers.store_of_all", lambda: stores[0])
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    here = socket.gethostname()
    for rank, pid in enumerate((os.getpid(), child.pid)):
        stores[0].set(f"{PREFIX}/meet/{rank}", json.dumps({"host": here, "pid": pid}))
    assert Peers(2, 3, PREFIX, replicated=True).gone([0, 1]) == [1]


def test_a_process_has_ended_before_its_parent_has_asked():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not has_ended(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet asked for
    assert has_ended(child.pid)
    child.communicate()
    assert has_ended(child.pid)
    assert not has_ended(os.getpid())
