#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A simulated agent, for tests of groups that follow one: agent.py SOCKET [times|windows]"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from pathlib import Path


def value(generation: int) -> bytes:
    return bytes((generation * 7 + i) % 256 for i in range(32))


class Agent:
    """An agent's end: frames as internal/link describes them. times: counters of the group are times; windows: how wide
    receivers' replay windows are, and how many."""

    def __init__(self, path: Path, times: bool = False, windows: tuple[int, int] = (0, 0)) -> None:
        self.times, self.windows = times, windows
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.ring, self.sequence, self.seal, self.next_id = os.urandom(16), 0, 1, 0x78000000
        self.generations = [0, 5, 0]
        self.done: dict[int, int] = {}
        self.granted: dict[int, bytes] = {}
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
                elif kind == 11:
                    self.granted = fields
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
        parameters = bytes(5) + bytes([self.times]) + bytes(6) + struct.pack(">2I", *self.windows) + bytes(8)
        self.send(4, {1: values, 2: bytes(16), 3: b"net", 4: sequence, 5: parameters, 6: rings, 7: bytes([self.seal])})
        return self.sequence

    def step(self, *generations: int, seal: int = 1) -> int:
        self.generations, self.seal = list(generations), seal
        number = self.state()
        end = time.monotonic() + 20
        while number not in self.done and time.monotonic() < end:
            time.sleep(0.002)
        return self.done[number]


if __name__ == "__main__":
    Agent(Path(sys.argv[1]), "times" in sys.argv[2:], (2048, 512) if "windows" in sys.argv[2:] else (0, 0))
    threading.Event().wait()
