# SPDX-License-Identifier: BSD-3-Clause
"""Whole rings, changing IDs, and groups that follow an agent. The tests play the agent."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

import eesp
from agent import Agent, value
from eesp import Level, Status

ID = b"ring for python."


def group_of(id: bytes, *generations: int) -> eesp.TrustGroup:
    group = eesp.TrustGroup()
    group.set_ring(Level.ZONE, id, generations, [value(g) if g else None for g in generations])
    return group


def test_rings() -> None:
    id = os.urandom(16)
    with group_of(id, 0, 3, 0) as a, group_of(id, 0, 3, 4) as b:
        sender, receiver = eesp.Sender(a, id=0x77000001, options=True), eesp.Receiver(b, replay_window=64)
        one = sender.seal([b"one"])
        assert receiver.open(one).good == 1
        a.set_ring(Level.ZONE, id, (3, 4, 0), (value(3), value(4), None))
        a.wait(10)
        assert bytes(receiver.open(sender.seal([b"two"]))[0]) == b"two"
        b.set_ring(Level.ZONE, id, (0, 4, 0), (None, value(4), None), floor=4)
        assert receiver.open(one).status[0] == Status.NO_KEY
        assert receiver.open(sender.seal([b"three"])).good == 1
        with pytest.raises(eesp.RootKeyError, match="below the floor 4"):
            b.set_ring(Level.ZONE, id, (3, 4, 0), (value(3), value(4), None))
        with pytest.raises(eesp.NotFoundError):
            b.rotate(Level.ZONE, 9)
        with pytest.raises(ValueError, match="None where the generation is 0"):
            b.set_ring(Level.ZONE, id, (0, 4, 0), (value(3), value(4), None))
        sender.set_id(0x77000002)
        assert sender.id == 0x77000002 and sender.seal([b"x"]).ids[0] == 0x77000002
        receiver.set_own_ids([0x77000002])
        assert receiver.open(sender.seal([b"x"])).status[0] == Status.REFLECTED
        receiver.set_own_ids([])
        assert receiver.open(sender.seal([b"x"])).good == 1


def test_clients(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent.sock")
    with eesp.TrustGroup.follow("net", socket=tmp_path / "agent.sock", clients=True) as group:
        receiver = eesp.Receiver(group)
        assert group.clients() == []
        numbers = {2: 1, 3: 0x76000001, 4: 0x76000002, 5: 3600000}
        fields = {n: struct.pack(">Q", x) for n, x in numbers.items()}
        agent.send(10, {1: bytes(16), 6: b"laptop", 7: bytes(2), **fields})
        end = time.monotonic() + 20
        while not agent.granted and time.monotonic() < end:
            time.sleep(0.002)
        assert agent.granted[3] == b"\0"
        (client,) = group.clients()
        assert (client.name, client.up, client.down) == ("laptop", 0x76000001, 0x76000002) and 3500 < client.lease <= 3600
        sender = group.client_sender(client)
        assert sender.id == client.down
        with pytest.raises(eesp.ExistsError):
            group.client_sender(client)
        assert sender.seal([b"to it"]).good == 1
        assert receiver.open(sender.seal([b"to it"])).status[0] == Status.REFLECTED
        agent.send(10, {1: bytes(16), 6: b"laptop", 7: b"\0\2", **fields})
        while group.clients() and time.monotonic() < end:
            time.sleep(0.002)
        assert sender.seal([b"to it"]).status[0] == Status.NO_KEY
        sender.close()
        receiver.close()


def test_follow(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with pytest.raises(eesp.AgentError, match="agent.sock"):
        eesp.TrustGroup.follow("net", socket=path, timeout=0.05)
    agent = Agent(path)
    with eesp.TrustGroup.follow("net", socket=path) as group:
        sender, receiver = eesp.Sender(group), eesp.Receiver(group)
        group.wait_sealing(20)
        assert sender.id == agent.next_id
        info = group.follow_info()
        assert info.connected and info.sealing == Status.OK and info.generations == {Level.ZONE: (0, 5, 0)} and info.ids == 1
        peer = group_of(agent.ring, 0, 5, 6)
        other = eesp.Receiver(peer)
        assert bytes(other.open(sender.seal([b"hello"]))[0]) == b"hello"
        assert receiver.open(sender.seal([b"hello"])).status[0] == Status.REFLECTED
        assert agent.step(0, 5, 6) == 0
        assert agent.step(5, 6, 0) == 0
        assert agent.step(0, 6, 0) == 0
        assert other.open(sender.seal([b"hello"])).good == 1
        assert agent.step(0, 5, 0) == 1
        assert "floor" in group.follow_info().problem
        for seal, status in ((2, Status.OUT_OF_TOUCH), (3, Status.FENCED)):
            assert agent.step(0, 6, 0, seal=seal) == 0
            assert sender.seal([b"hello"]).status[0] == status
        with pytest.raises(eesp.FencedError):
            group.wait_sealing(0.01)
        was = sender.id
        assert agent.step(0, 6, 0) == 0
        group.wait_sealing(20)
        assert sender.id != was and other.open(sender.seal([b"hello"])).good == 1
        with pytest.raises(eesp.UnsupportedError):
            group.generate_root_key(Level.ZONE, bytes(16))
        with pytest.raises(eesp.ArgumentError, match="the agent gives it"):
            eesp.Sender(group, id=5)
        receiver.close()
        sender.close()


def test_a_group_whose_counters_are_times(tmp_path: Path) -> None:
    """The group says so, and receivers that do not ask for windows go by it."""
    path = tmp_path / "agent.sock"
    agent = Agent(path, times=True)
    with eesp.TrustGroup.follow("net", socket=path) as group:
        assert group.follow_info().replay == "time"
        sender = eesp.Sender(group)
        group.wait_sealing(20)
        with group_of(agent.ring, 0, 5, 6) as plain:
            packet = sender.seal([b"when"])
            assert abs(packet.tscs[0] / 2**28 - time.time()) < 1
            assert eesp.Receiver(plain, replay_window=64).open(packet).good == 1
        receiver = eesp.Receiver(group, clock_trusted=True, max_age=10, max_rate=1000)
        strict = eesp.Receiver(group, clock_trusted=True, max_age=0.05)
        time.sleep(0.05)  # they open nothing for 25 ms
        with eesp.TrustGroup(time=True) as other:
            other.set_ring(Level.ZONE, agent.ring, (0, 5, 6), (None, value(5), value(6)))
            peer = eesp.Sender(other, id=0x79000001, options=True)
            packet = peer.seal([b"once"])
            assert receiver.open(packet).failures() == {} and receiver.open(packet).failures() == {0: Status.REPLAY}
            time.sleep(0.1)
            assert strict.open(packet).failures() == {0: Status.STALE}
        with eesp.Receiver(group, replay_window=64) as windows:
            assert windows.open(packet).good == 1 and windows.replay_stats().windows == 1
        for one in (sender, receiver, strict, peer):
            one.close()
