# SPDX-License-Identifier: BSD-3-Clause
"""Whole rings, IDs that change, and groups that follow an agent, which is played here."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

import eesp
from eesp import Level, Status

ID = b"ring for python."


def value(generation: int) -> bytes:
    return bytes((generation * 7 + i) % 256 for i in range(32))


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


class Agent:
    """An agent's end: frames as internal/link describes them."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.ring, self.sequence, self.seal, self.next_id = os.urandom(16), 0, 1, 0x78000000
        self.generations = [0, 5, 0]
        self.done: dict[int, int] = {}
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while True:
            try:
                self.link, _ = self.listener.accept()
            except OSError:
                return
            while len(head := self.link.recv(8, socket.MSG_WAITALL)) == 8:
                size, kind, _ = struct.unpack(">IHH", head)
                body = self.link.recv(size, socket.MSG_WAITALL) if size else b""
                fields = {}
                while body:
                    number, n = struct.unpack_from(">HH", body)
                    fields[number], body = body[4 : 4 + n], body[4 + n :]
                if kind == 1:
                    self.send(2, {1: struct.pack(">H", 1)})
                elif kind == 3:
                    self.state()
                elif kind == 5:
                    self.done[int.from_bytes(fields[2], "big")] = fields[3][0]
                elif kind == 6:
                    self.next_id += 1
                    self.send(7, {1: fields[1], 2: struct.pack(">Q", self.next_id)})

    def send(self, kind: int, fields: dict[int, bytes]) -> None:
        body = b"".join(struct.pack(">HH", number, len(v)) + v for number, v in sorted(fields.items()))
        self.link.sendall(struct.pack(">IHH", len(body), kind, 1) + body)

    def state(self) -> int:
        self.sequence += 1
        values = b"".join(value(g) if g else bytes(32) for g in self.generations) + bytes(192)
        rings = bytes(4) + self.ring + bytes(12) + struct.pack(">Q", 0) + struct.pack(">3Q", *self.generations) + bytes(8)
        sequence = struct.pack(">Q", self.sequence)
        self.send(4, {1: values, 2: bytes(16), 3: b"net", 4: sequence, 5: bytes(28), 6: rings, 7: bytes([self.seal])})
        return self.sequence

    def step(self, *generations: int, seal: int = 1) -> int:
        self.generations, self.seal = list(generations), seal
        number = self.state()
        end = time.monotonic() + 20
        while number not in self.done and time.monotonic() < end:
            time.sleep(0.002)
        return self.done[number]


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
