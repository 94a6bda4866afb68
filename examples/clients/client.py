#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A client outside a cluster, as client.c is: gets data keys from a granter, and sends packets to answerer.c."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import struct
import sys
import time
from pathlib import Path

import eesp


def fields(b: bytes) -> dict[int, bytes]:
    """Fields by number: number u16 (its top bit: it must be understood), length u16, value."""
    found = {}
    while b:
        number, size = struct.unpack_from(">HH", b)
        found[number & 0x7FFF], b = b[4 : 4 + size], b[4 + size :]
    return found


class Pair:
    """A client grant (record C13): "EESP", type 13, version 1, flags u16, length u32, fields."""

    def __init__(self, record: bytes, asked: float) -> None:
        if record[:8] != b"EESP\x0d\x01\0\0" or len(record) != 12 + int.from_bytes(record[8:12], "big"):
            raise ValueError("not a client grant")
        all = fields(record[12:])
        profile = eesp.Profile(int.from_bytes(all.get(7, b"\0"), "big"))
        self.up, self.down = (self.key(profile, all, fields(all[n][2:])) for n in (2, 3))
        self.end, self.renew = (asked + int.from_bytes(all[n], "big") for n in (4, 5))
        # The ID was never used before, so counters begin at 0: of a pair there is one sender.
        self.sender = self.receiver = None

    @staticmethod
    def key(profile: eesp.Profile, all: dict[int, bytes], side: dict[int, bytes]) -> eesp.DataKey:
        id = int.from_bytes(side[6] if profile is eesp.Profile.PSP else side[1], "big")
        v = (eesp.PspVersion if profile is eesp.Profile.PSP else eesp.V)(side[3][0])
        epoch = int.from_bytes(side[2], "big")
        return eesp.DataKey(id=id, key=side[5], profile=profile, v=v, epoch=epoch, options=all.get(8, b""))

    def open(self) -> None:
        self.sender = eesp.Sender(self.up, counter=eesp.Explicit(start=0))
        self.receiver = eesp.Receiver(self.down)


def ask(folder: Path, granter: str, address: str, group: str, have: Pair | None) -> Pair:
    """The pair that the client has, with a new lease, or another one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # hosts of a cluster are known by a URI, below
    context.load_verify_locations(folder / "ca.crt")
    context.load_cert_chain(folder / "client.crt", folder / "client.key")
    connection = http.client.HTTPSConnection(address, context=context, timeout=20)
    asked = time.clock_gettime(time.CLOCK_BOOTTIME)  # the lease counts from here, also while the machine sleeps
    connection.connect()
    names = [v for kind, v in connection.sock.getpeercert()["subjectAltName"] if kind == "URI"]
    if not any(n.startswith("eesp://") and n.split("/")[3:] == ["member", granter] for n in names):
        raise SystemExit(f"client.py: {address} is not the granter {granter}: {names}")
    connection.request("POST", "/v1/grant", json.dumps({"group": group, "renew": have.up.id if have else 0}))
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"client.py: refused: {body.decode().strip()}")
    pair = Pair(body, asked)
    if have and pair.up.id == have.up.id:
        have.renew, have.end = pair.renew, pair.end
        return have
    pair.open()
    print(f"a pair of keys: up {pair.up.id:#x}, down {pair.down.id:#x}, for {pair.end - asked:.0f} s", flush=True)
    return pair


def main() -> int:
    if len(sys.argv) != 7:
        print("usage: client.py DIR GRANTER HOST:PORT GROUP ANSWERER:PORT PACKETS", file=sys.stderr)
        return 2
    folder, granter, address, group, answerer, packets = sys.argv[1:]
    host, _, port = answerer.rpartition(":")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.connect((host, int(port)))
    udp.settimeout(1)
    pair, answered = None, 0
    for i in range(int(packets)):
        if pair is None or time.clock_gettime(time.CLOCK_BOOTTIME) >= pair.renew:
            pair = ask(Path(folder), granter, address, group, pair)
        text = f"packet {i}".encode()
        udp.send(bytes(pair.sender.seal([text])[0]))
        try:
            opened = pair.receiver.open([udp.recv(2048)])
        except TimeoutError:
            continue
        answered += opened.good == 1 and bytes(opened[0]) == text
        time.sleep(0.02)
    print(f"{packets} packets, {answered} answered")
    return 0 if answered == int(packets) else 1


if __name__ == "__main__":
    sys.exit(main())
