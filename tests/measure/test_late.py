from __future__ import annotations

import torch

from steadygrad.measure import LateReads


def test_packets_arrive_whole_and_in_order_with_their_notes():
    reads = LateReads()
    reads.send(torch.tensor([1.0, float("nan")]), "first")
    reads.send(torch.tensor([float("inf")], dtype=torch.float64), "second")
    note, numbers = reads.take()
    assert note == "first"
    assert numbers[0] == 1.0
    assert numbers[1] != numbers[1]
    assert reads.take()[1].tolist() == [float("inf")]


def test_nothing_under_way_is_none():
    assert LateReads().take() is None


def test_a_packet_is_a_copy_of_the_moment_it_was_sent():
    reads, packet = LateReads(), torch.ones(2)
    reads.send(packet, None)
    packet.zero_()
    assert reads.take()[1].tolist() == [1.0, 1.0]


def test_what_nobody_takes_is_bounded_and_the_oldest_goes_first():
    reads = LateReads()
    for step in range(1000):
        reads.send(torch.tensor([float(step)]), step)
    taken = []
    while (arrived := reads.take()) is not None:
        taken.append(arrived[0])
    assert len(taken) < 200
    assert taken == list(range(1000 - len(taken), 1000))
