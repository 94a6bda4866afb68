#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Captures in all forms that the tools read, and in some that they refuse, with what is to be read of each.

usage: forms.py DIR; makes DIR/NAME and prints, for each, a line of JSON.
"""

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

UDP = struct.pack(">HHHH", 1111, 2222, 8 + 32, 0) + bytes(range(32))


def checksum(octets: bytes) -> int:
    total = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(payload: bytes, length: int | None = None, first: int = 0x45, options: bytes = b"") -> bytes:
    size = 20 + len(options) + len(payload) if length is None else length
    head = struct.pack(">BBHHHBBH8s", first, 0, size, 1, 0, 64, 17, 0, b"\x0a\0\0\1\x0a\0\0\2") + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def ip6(payload: bytes, next_header: int = 17, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    ends = (b"\xfd" + bytes(14) + b"\1") + (b"\xfd" + bytes(14) + b"\2")
    return struct.pack(">IHBB", 6 << 28, size, next_header, 64) + ends + payload


P4, P6 = ip4(UDP), ip6(UDP)
MAC = bytes.fromhex("020000000001020000000002")
TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
SECONDS = 1_700_000_000


def pcap(link: int, frames: list[Any], order: str = "<", magic: int = 0xA1B2C3D4, fraction: int = 5) -> bytes:
    """A frame is octets, or a pair: octets, and how many there were on the wire."""
    made = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    for frame in frames:
        octets, wire = frame if isinstance(frame, tuple) else (frame, len(frame))
        made += struct.pack(order + "IIII", SECONDS, fraction, len(octets), wire) + octets
    return made


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(order: str, link: int, *options: tuple[int, bytes], snaplen: int = 0) -> bytes:
    listed = b"".join(option(order, code, value) for code, value in options) + (bytes(4) if options else b"")
    return block(order, 1, struct.pack(order + "HHI", link, 0, snaplen) + listed)


def enhanced(order: str, number: int, stamp: int, octets: bytes, wire: int | None = None, more: bytes = b"") -> bytes:
    head = struct.pack(order + "5I", number, stamp >> 32, stamp & 0xFFFFFFFF, len(octets), wire or len(octets))
    return block(order, 6, head + octets + bytes(-len(octets) % 4) + more)


def ether(packet: bytes, *tags: bytes, kind: bytes | None = None) -> bytes:
    front = b"".join(tag + b"\0\x64" for tag in tags)
    return MAC + front + (kind or TYPES[packet[0] >> 4]) + packet


def sll(packet: bytes, *tags: bytes) -> bytes:
    return struct.pack(">HHH8s", 0, 1, 6, MAC[:8]) + ether(packet, *tags)[12:]


def sll2(packet: bytes, *tags: bytes) -> bytes:
    behind = ether(packet, *tags)[12:]
    return behind[:2] + struct.pack(">HIHBB8s", 0, 1, 1, 0, 6, MAC[:8]) + behind[2:]


Q, QINQ, OLD = b"\x81\x00", b"\x88\xa8", b"\x91\x00"
US, NS = SECONDS * 10**9 + 5000, SECONDS * 10**9 + 5


def forms() -> dict[str, dict[str, Any]]:
    """By name: octets; packets [(time, packet)]; not_ip, cut, malformed, clamped; fault: text in what is said of it;
    refused: text of the error."""
    made: dict[str, dict[str, Any]] = {}

    def add(name: str, octets: bytes, packets: list[tuple[int, bytes]], **what: Any) -> None:
        made[name] = {"octets": octets, "packets": packets, "not_ip": 0, "cut": 0, "malformed": 0, "clamped": 0} | what

    both = [(US, P4), (US, P6)]
    framings: list[tuple[str, int, Callable[..., bytes]]] = [("ethernet", 1, ether), ("sll", 113, sll), ("sll2", 276, sll2)]
    for name, link, frame in framings:
        listed: list[list[bytes]] = [[], [Q], [QINQ, Q], [OLD, Q], [Q, Q, Q]]
        for tags in listed:
            add("-".join([name, *(tag.hex() for tag in tags)]), pcap(link, [frame(P4, *tags), frame(P6, *tags)]), both)
        octets = frame(P4, Q)
        add(f"{name}-in-the-tag", pcap(link, [octets[: -len(P4) - 1], octets[: -len(P4)], octets]), both[:1], not_ip=2)
    for link in (12, 14, 101):
        add(f"raw-{link}", pcap(link, [P4, P6, b"", b"\x52" + P4[1:]]), both, not_ip=2)
    add("ipv4-228", pcap(228, [P4, P6]), both[:1], malformed=1, fault="frame 2: IP version 6 in a frame of IPv4")
    add("ipv6-229", pcap(229, [P4, P6]), both[1:], malformed=1, fault="frame 1: IP version 4 in a frame of IPv6")
    for link, order in ((0, "<"), (0, ">"), (108, ">")):
        frames = [struct.pack(order + "I", n) + packet for n, packet in ((2, P4), (24, P6), (28, P6), (30, P6), (7, P4))]
        add(f"loopback-{link}{'le' if order == '<' else 'be'}", pcap(link, frames), both + both[1:] * 2, not_ip=1)
    for order in "<>":
        name = "le" if order == "<" else "be"
        add(f"ns-{name}", pcap(1, [ether(P4)], order, 0xA1B23C4D), [(NS, P4)])
        add(f"us-{name}", pcap(1, [ether(P4)], order), both[:1])
    add("fcs", pcap(1 | 0x24000000, [ether(P4) + b"\1\2\3\4"]), both[:1])
    end = SECONDS * 10**9 + 999_999_999
    add("us-a-second", pcap(1, [ether(P4)], fraction=10**6), [(end - 999, P4)], clamped=1)
    add("us-are-ns", pcap(1, [ether(P4)], fraction=123_456_789), [(end - 999, P4)], clamped=1)
    add("ns-a-second", pcap(1, [ether(P4)], magic=0xA1B23C4D, fraction=10**9), [(end, P4)], clamped=1)

    # Lengths
    jumbo = "frame 1: IPv6 payload length 0: a jumbogram, or BIG TCP"
    hop_by_hop = bytes([6, 0, 0xC2, 4]) + struct.pack(">I", 8 + 70_000)
    for name, packet, fault in (
        ("tso", ip4(bytes(3000), 0), "frame 1: IPv4 total length 0: BIG TCP"),
        ("bigtcp4", ip4(bytes(70_000), 0), "frame 1: IPv4 total length 0: BIG TCP"),
        ("bigtcp6", ip6(bytes(70_000), 6, 0), jumbo),
        ("jumbogram", ip6(hop_by_hop + bytes(70_000), 0, 0), jumbo),
        ("length-19", ip4(UDP, 19), "frame 1: IPv4 total length 19"),
        ("ihl-4", ip4(UDP, first=0x44), "frame 1: IPv4 header length 16"),
        ("ihl-0", ip4(UDP, first=0x40), "frame 1: IPv4 header length 0"),
        ("ihl-15", ip4(bytes(30), first=0x4F), "frame 1: IPv4 header length 60"),
        ("length-1", ip4(UDP, 1), "frame 1: IPv4 total length 1"),
    ):
        add(name, pcap(101, [packet, P4]), both[:1], malformed=1, fault=fault)
        add(f"{name}-only", pcap(101, [packet]), [], malformed=1, fault=fault)
    add("version", pcap(1, [ether(P6, kind=TYPES[4]), ether(bytes(40), kind=TYPES[6]), ether(P4)]), both[:1], malformed=2,
        fault="frame 2: IP version 0 in a frame of IPv6")
    add("jumbogram-cut", pcap(101, [(ip6(b"", 0, 0), 70_040), P4]), both[:1], malformed=1, fault=jumbo)
    empty = ip6(b"", 59)
    add("no-next-header", pcap(1, [ether(empty) + bytes(6)]), [(US, empty)])
    options = ip4(UDP, first=0x46, options=b"\1\1\1\0")
    add("options", pcap(101, [options]), [(US, options)])
    add("padded", pcap(1, [ether(P4) + bytes(18)]), both[:1])
    add("cut", pcap(1, [(ether(P4)[:-1], len(ether(P4))), ether(P6)[:50], (ether(P4), 1500), (ether(P6), 20)]), both, cut=2)
    # Headers that are not all there, and what is one octet long.
    heads = [P4[:n] for n in (1, 2, 9, 19, 20)] + [P6[:n] for n in (1, 5, 39, 40)]
    add("cut-headers", pcap(101, [*heads, P4]), both[:1], cut=len(heads))
    shortest = [ip4(b""), ip6(b"", 59), ip6(bytes(8), 59), ip6(bytes([17, 0, 1, 4, 0, 0, 0, 0]) + UDP, 0)]
    add("shortest", pcap(101, shortest), [(US, packet) for packet in shortest])
    add("others", pcap(1, [ether(b"\x45", kind=b"\x08\x06"), ether(P4, kind=b"\x88\x64"), ether(P4)]), both[:1], not_ip=2)

    # Files that are damaged: what is in front of that counts.
    whole = pcap(1, [ether(P4), ether(P6)])
    add("cut-in-record", whole[:-5], both[:1], fault="cut short in frame 2, where reading ends")
    add("cut-in-header", whole + b"\1\2\3", both, fault="cut short in frame 3, where reading ends")
    add("long-record", whole + struct.pack("<4I", 0, 0, 1 << 30, 0), both, fault="damaged in frame 3")
    add("empty", pcap(1, []), [])

    # pcapng
    for order in "<>":
        name = "le" if order == "<" else "be"
        head = section(order) + interface(order, 1)
        stamp = SECONDS * 10**6 + 5
        add(f"ng-{name}", head + enhanced(order, 0, stamp, ether(P4)) + enhanced(order, 0, stamp, ether(P6)), both)
        several = section(order) + interface(order, 101, (2, b"eth0")) + interface(order, 113, (9, b"\x09"), (2, b"name"))
        several += interface(order, 276, (9, b"\x94")) + interface(order, 1, (14, struct.pack(order + "q", SECONDS)))
        several += interface(order, 1, (9, b"\x00"))
        several += interface(order, 0, (9, b"\x0c"), (14, struct.pack(order + "q", SECONDS)))
        several += block(order, 0x0BAD, bytes(40)) + block(order, 4, bytes(8)) + block(order, 5, bytes(12))
        several += enhanced(order, 0, stamp, P4, more=option(order, 1, b"a comment") + bytes(4))
        several += enhanced(order, 1, NS, sll(P6, Q)) + enhanced(order, 2, SECONDS << 20, sll2(P4))
        several += enhanced(order, 3, 5, ether(P6, QINQ, Q)) + enhanced(order, 4, SECONDS, ether(P4))
        several += enhanced(order, 5, 5999, b"\2\0\0\0" + P4)
        second = SECONDS * 10**9
        found = [(US, P4), (NS, P6), (second, P4), (US, P6), (second, P4), (NS, P4)]
        add(f"ng-several-{name}", several, found)
        # Another section has interfaces, and a byte order, of its own.
        other = ">" if order == "<" else "<"
        more = section(other) + interface(other, 101) + enhanced(other, 0, stamp, P6)
        add(f"ng-sections-{name}", several + more, [*found, (US, P6)])
        short = section(order) + interface(order, 1, snaplen=80)
        short += block(order, 3, struct.pack(order + "I", len(ether(P4))) + ether(P4))
        short += block(order, 3, struct.pack(order + "I", 1500) + ether(ip4(bytes(2000)))[:80])
        old = struct.pack(order + "HHIIII", 0, 3, stamp >> 32, stamp & 0xFFFFFFFF, len(ether(P6)), len(ether(P6)))
        add(f"ng-simple-{name}", short + block(order, 2, old + ether(P6)), [(0, P4), (US, P6)], cut=1)
        for what, octets, fault in (
            ("cut", enhanced(order, 0, stamp, ether(P6))[:-9], "cut short in frame 2"),
            ("cut-head", b"\6\0\0", "cut short in frame 2"),
            ("interface", enhanced(order, 1, stamp, ether(P6)), "interface 1, which is not described: damaged in frame 2"),
            ("size", struct.pack(order + "II", 6, 1 << 30), "a block of 1073741824 octets: damaged in frame 2"),
            ("odd", struct.pack(order + "II", 6, 33) + bytes(40), "a block of 33 octets: damaged in frame 2"),
            ("small", struct.pack(order + "II", 6, 8), "a block of 8 octets: damaged in frame 2"),
            ("short", block(order, 6, bytes(8)), "a short block: damaged in frame 2"),
            ("length", block(order, 6, struct.pack(order + "5I", 0, 0, 0, 61, 61) + bytes(60)), "61 octets: damaged in frame 2"),
            ("two", block(order, 5, bytes(8))[:-4] + struct.pack(order + "I", 24), "a block with two lengths: damaged"),
            ("no-order", struct.pack(order + "III", 0x0A0D0D0A, 28, 7) + bytes(16), "without byte order: damaged in frame 2"),
        ):
            add(f"ng-{what}-{name}", head + enhanced(order, 0, stamp, ether(P4)) + octets, both[:1], fault=fault)
        late = interface(order, 1, (14, struct.pack(order + "q", -1))) + interface(order, 1, (14, struct.pack(order + "q", 1 << 40)))
        late = section(order) + late + enhanced(order, 0, 0, ether(P4)) + enhanced(order, 1, 0, ether(P6))
        add(f"ng-times-{name}", late, [(0, P4), ((1 << 64) - 1, P6)], clamped=2)
        usb = head + interface(order, 147) + enhanced(order, 0, stamp, ether(P4))
        add(f"ng-unused-link-{name}", usb, both[:1])
        add(f"ng-link-{name}", usb + enhanced(order, 1, stamp, P4), [], refused="frame 2: link type 147 is not supported")
    add("ng-no-order", struct.pack("<III", 0x0A0D0D0A, 28, 7) + bytes(16), [], refused="not a pcapng file")
    add("link-147", pcap(147, [P4]), [], refused="link type 147 is not supported; Ethernet")
    add("modified", pcap(1, [ether(P4)], magic=0xA1B2CD34), [], refused="neither a pcap nor a pcapng file")
    add("short", whole[:23], [], refused="neither a pcap nor a pcapng file")
    add("nothing", b"", [], refused="neither a pcap nor a pcapng file")
    return made


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(exist_ok=True)
    for name, form in forms().items():
        (target / name).write_bytes(form.pop("octets"))
        print(json.dumps({"name": name} | form | {"packets": [(when, packet.hex()) for when, packet in form["packets"]]}))
