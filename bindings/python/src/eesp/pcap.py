# SPDX-License-Identifier: BSD-3-Clause
"""Captures in the classic pcap format, and where sealed packets are in them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ._abi import ICV_LEN, MAX_HEADER, MAX_PADDING

LINKTYPE_RAW = 101
_MAX_FRAME = 262144
# Where frames have their EtherType (None: there is none) and the packet behind it.
_LINKS: dict[int, tuple[int | None, int]] = {1: (12, 14), LINKTYPE_RAW: (None, 0), 113: (14, 16), 276: (0, 20)}
_ETHERTYPES = {b"\x08\x00": 4, b"\x86\xdd": 6}
_IPV4_LEN, _IPV6_LEN, _UDP_LEN = 20, 40, 8
# The longest inner packet that fits into an outer one, whatever the headers.
MAX_INNER = 65535 - _IPV6_LEN - _UDP_LEN - MAX_HEADER - MAX_PADDING - ICV_LEN


class CaptureError(ValueError):
    """The file is not a capture that can be read."""


@dataclass(frozen=True)
class Frame:
    """An IP packet of a capture, and when it was seen (ns since 1970)."""

    time_ns: int
    packet: bytes


@dataclass
class Skipped:
    """What a reader left out."""

    not_ip: int = 0
    cut: int = 0  # shorter in the file than on the wire, or than its IP header says
    truncated: int = 0  # 1 if the file ends inside a record


class Reader:
    """The IP packets of a capture. progress is called with the octets of each frame read."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], None] = lambda octets: None) -> None:
        self._file, self._progress = file, progress
        self.skipped = Skipped()
        head = file.read(24)
        magic = head[:4]
        if magic == b"\x0a\x0d\x0d\x0a":
            raise CaptureError("this is pcapng; convert it with: editcap -F pcap")
        known = {b"\xd4\xc3\xb2\xa1": ("<", 1000), b"\xa1\xb2\xc3\xd4": (">", 1000)}
        known |= {b"\x4d\x3c\xb2\xa1": ("<", 1), b"\xa1\xb2\x3c\x4d": (">", 1)}
        if magic not in known or len(head) < 24:
            raise CaptureError("not a pcap file")
        order, self._tick = known[magic]
        self._record = struct.Struct(order + "IIII")
        link: int = struct.unpack(order + "I", head[20:])[0] & 0xFFFF
        if link not in _LINKS:
            raise CaptureError(f"link type {link} is not supported")
        self._type_at, self._ip_at = _LINKS[link]

    def __iter__(self) -> Iterator[Frame]:
        read, record = self._file.read, self._record
        while head := read(16):
            if len(head) < 16:
                self.skipped.truncated = 1
                return
            seconds, fraction, length, wire = record.unpack(head)
            if fraction * self._tick >= 1_000_000_000:
                raise CaptureError("a record's fraction of a second is a second or more: the file is damaged")
            if length > _MAX_FRAME:
                raise CaptureError(f"a record of {length} octets: the file is damaged")
            octets = read(length)
            if len(octets) < length:
                self.skipped.truncated = 1
                return
            self._progress(16 + length)
            packet = self._ip_packet(octets, wire > length)
            if packet is not None:
                yield Frame(seconds * 1_000_000_000 + fraction * self._tick, packet)

    def _ip_packet(self, octets: bytes, cut: bool) -> bytes | None:
        packet = octets[self._ip_at :]
        version = packet[0] >> 4 if packet else 0
        if self._type_at is not None and _ETHERTYPES.get(octets[self._type_at : self._type_at + 2]) != version:
            version = 0
        if version not in (4, 6):
            self.skipped.not_ip += 1
            return None
        if len(packet) < (_IPV4_LEN if version == 4 else _IPV6_LEN):
            self.skipped.cut += 1
            return None
        if version == 4:
            length = int.from_bytes(packet[2:4], "big")
        else:
            length = _IPV6_LEN + int.from_bytes(packet[4:6], "big")
        if cut or length > len(packet) or length < _IPV4_LEN:
            self.skipped.cut += 1
            return None
        return packet[:length]


class Writer:
    """Writes IP packets: nanoseconds, link type raw."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, _MAX_FRAME, LINKTYPE_RAW))

    def write(self, time_ns: int, *parts: bytes | memoryview) -> None:
        """Appends one packet, in parts."""
        size = sum(map(len, parts))
        self._file.write(struct.pack("<IIII", *divmod(time_ns, 1_000_000_000), size, size))
        self._file.writelines(parts)


def strip_outer(packet: bytes, port: int) -> memoryview | None:
    """The payload of an IP packet that is one whole UDP datagram to a port, or None."""
    if packet[0] >> 4 == 4:
        at, fragment = 4 * (packet[0] & 0xF), int.from_bytes(packet[6:8], "big") & 0x3FFF
        if at < _IPV4_LEN or fragment or packet[9] != 17:
            return None
    else:
        if packet[6] != 17:
            return None
        at = _IPV6_LEN
    if len(packet) < at + _UDP_LEN or int.from_bytes(packet[at + 2 : at + 4], "big") != port:
        return None
    size = int.from_bytes(packet[at + 4 : at + 6], "big")
    if not _UDP_LEN <= size <= len(packet) - at:
        return None
    return memoryview(packet)[at + _UDP_LEN : at + size]
