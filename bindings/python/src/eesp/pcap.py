# SPDX-License-Identifier: BSD-3-Clause
"""Reads and writes captures (pcap, pcapng): the IP packets in them, and the sealed packets in these.

docs/python.md, "Which captures are read", has the rules; examples/c/pcap_tunnel.c follows them too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ._abi import ICV_LEN, MAX_HEADER, MAX_PADDING

LINKTYPE_RAW = 101
_MAX_FRAME = 262144  # of libpcap
_MAX_BLOCK = 1 << 24
_SECOND = 1_000_000_000
# Where frames have their EtherType, and the packet behind it.
_LINKS = {1: (12, 14), 113: (14, 16), 276: (0, 20)}
_LOOPBACK = (0, 108)
#: Frames that are IP packets, of which version (0: of any).
_RAW = {12: 0, 14: 0, LINKTYPE_RAW: 0, 228: 4, 229: 6}
_ETHERTYPES = {b"\x08\x00": 4, b"\x86\xdd": 6}
_TAGS = (b"\x81\x00", b"\x88\xa8", b"\x91\x00")  # VLAN
# Address families of loopback devices, in either byte order.
_FAMILIES = {2: 4, 24: 6, 28: 6, 30: 6}
_FAMILIES |= {int.from_bytes(n.to_bytes(4, "little"), "big"): version for n, version in _FAMILIES.items()}
_IPV4_LEN, _IPV6_LEN, _UDP_LEN = 20, 40, 8
_NO_NEXT_HEADER = 59
# The longest inner packet that fits into an outer one, whatever the headers.
MAX_INNER = 65535 - _IPV6_LEN - _UDP_LEN - MAX_HEADER - MAX_PADDING - ICV_LEN

_SECTION, _INTERFACE, _PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6  # blocks of pcapng


class CaptureError(ValueError):
    """The file is not a capture that can be read."""


@dataclass(frozen=True)
class Frame:
    """An IP packet of a capture, and when it was seen (ns since 1970)."""

    time_ns: int
    packet: bytes


@dataclass
class Skipped:
    """How many frames a reader left out, by reason."""

    not_ip: int = 0
    cut: int = 0  # shorter in the file than the IP header says
    malformed_frames: int = 0  # each of these is a fault that names the frame
    truncated: int = 0  # 1 if the file ends, or can no longer be read, inside a record

    @property
    def faults(self) -> int:
        """How many faults the capture itself has."""
        return self.malformed_frames + self.truncated


@dataclass(frozen=True)
class _Interface:
    link: int
    snaplen: int
    units: int = 1_000_000  # of time stamps, in a second
    offset: int = 0  # seconds


@dataclass(frozen=True)
class _Record:
    time_ns: int
    link: int
    octets: bytes
    wire: int  # octets on the wire


class _Damaged(Exception):
    """The capture cannot be read any further."""


@dataclass
class Reader:
    """The IP packets of a capture.

    progress is called with the octets of each frame read, fault with what is wrong with a frame that is left out for
    being malformed, or at which the file cannot be read any further. clamped: time stamps whose fraction was a second
    or more, and is taken as the end of their second.
    """

    file: BinaryIO
    progress: Callable[[int], None] = lambda octets: None
    fault: Callable[[str], None] = lambda text: None
    skipped: Skipped = field(default_factory=Skipped)
    clamped: int = 0

    def __post_init__(self) -> None:
        magic = self._some(4)
        known = {b"\xd4\xc3\xb2\xa1": ("<", 1000), b"\xa1\xb2\xc3\xd4": (">", 1000)}
        known |= {b"\x4d\x3c\xb2\xa1": ("<", 1), b"\xa1\xb2\x3c\x4d": (">", 1)}
        self._frames = 0
        if magic == _SECTION.to_bytes(4, "big"):
            self._start = self._some(8)
            if self._order_of(self._start[4:]) is None:
                raise CaptureError("not a pcapng file: its first block is no section header")
            self._records = self._of_pcapng()
            return
        head = self._some(20)
        if magic not in known or len(head) < 20:
            raise CaptureError("neither a pcap nor a pcapng file")
        order, tick = known[magic]
        link: int = struct.unpack(order + "I", head[16:])[0] & 0xFFFF
        self._known(link)
        self._records = self._of_pcap(struct.Struct(order + "IIII"), tick, link)

    def __iter__(self) -> Iterator[Frame]:
        try:
            for record in self._records:
                packet = self._ip_packet(record)
                if packet is not None:
                    yield Frame(record.time_ns, packet)
        except _Damaged as error:
            self.skipped.truncated = 1
            self.fault(f"{error} {self._frames + 1}, where reading ends")

    def _known(self, link: int) -> None:
        if link not in _LINKS and link not in _RAW and link not in _LOOPBACK:
            where = f"frame {self._frames}: " if self._frames else ""
            raise CaptureError(
                f"{where}link type {link} is not supported; Ethernet, raw IP, Linux cooked and loopback are"
            )

    def _some(self, size: int) -> bytes:
        try:
            return self.file.read(size)
        except OSError as error:  # not the output's
            raise CaptureError(error.strerror) from None

    def _read(self, size: int) -> bytes:
        octets = self._some(size)
        if len(octets) < size:
            raise _Damaged("cut short in frame")
        return octets

    # ---- pcap

    def _of_pcap(self, record: struct.Struct, tick: int, link: int) -> Iterator[_Record]:
        while head := self._some(16):
            if len(head) < 16:
                raise _Damaged("cut short in frame")
            seconds, fraction, length, wire = record.unpack(head)
            if length > _MAX_FRAME:
                raise _Damaged(f"a length of {length} octets: damaged in frame")
            octets = self._read(length)
            self._frames += 1
            self.progress(16 + length)
            if fraction * tick >= _SECOND:
                self.clamped += 1
                fraction = _SECOND // tick - 1
            yield _Record(seconds * _SECOND + fraction * tick, link, octets, wire)

    # ---- pcapng

    @staticmethod
    def _order_of(magic: bytes) -> str | None:
        return {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(magic)

    def _of_pcapng(self) -> Iterator[_Record]:
        order: str | None = None
        interfaces: list[_Interface] = []
        head, more = _SECTION.to_bytes(4, "big") + self._start[:4], self._start[4:]
        while head:
            if len(head) < 8:
                raise _Damaged("cut short in frame")
            if head[:4] == _SECTION.to_bytes(4, "big"):
                more = more or self._read(4)
                order = self._order_of(more)
                interfaces = []
                if order is None:
                    raise _Damaged("a section header without byte order: damaged in frame")
            kind, size = struct.unpack(f"{order}II", head)
            if size % 4 or not 12 + len(more) <= size <= _MAX_BLOCK:
                raise _Damaged(f"a block of {size} octets: damaged in frame")
            body = more + self._read(size - 12 - len(more))
            if struct.unpack(f"{order}I", self._read(4))[0] != size:
                raise _Damaged("a block with two lengths: damaged in frame")
            if kind == _INTERFACE:
                interfaces.append(self._interface(f"{order}", body))
            elif kind in (_PACKET, _SIMPLE, _ENHANCED):
                yield self._block(f"{order}", kind, body, interfaces)
            self.progress(size)
            head, more = self._some(8), b""

    @staticmethod
    def _interface(order: str, body: bytes) -> _Interface:
        if len(body) < 8:
            raise _Damaged("a short interface description: damaged in frame")
        link, snaplen = struct.unpack(order + "HxxI", body[:8])
        units, offset, at = 1_000_000, 0, 8
        while at + 4 <= len(body):
            code, size = struct.unpack(order + "HH", body[at : at + 4])
            value = body[at + 4 : at + 4 + size]
            if code == 0 or len(value) < size:
                break
            if code == 9 and size == 1:
                units = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == 14 and size == 8:
                (offset,) = struct.unpack(order + "q", value)
            at += 4 + size + -size % 4
        return _Interface(link, snaplen, units, offset)

    def _block(self, order: str, kind: int, body: bytes, interfaces: list[_Interface]) -> _Record:
        fixed = 4 if kind == _SIMPLE else 20
        if len(body) < fixed:
            raise _Damaged("a short block: damaged in frame")
        number, stamp = 0, 0
        if kind == _SIMPLE:
            (wire,) = struct.unpack(order + "I", body[:4])
        else:
            number, high, low, length, wire = struct.unpack(order + "IIIII", body[:20])
            stamp = high << 32 | low
            if kind == _PACKET:
                (number,) = struct.unpack(order + "H", body[:2])
        if number >= len(interfaces):
            raise _Damaged(f"interface {number}, which is not described: damaged in frame")
        interface = interfaces[number]
        if kind == _SIMPLE:
            length = min(wire, interface.snaplen or wire)
        if length > len(body) - fixed or length > _MAX_FRAME:
            raise _Damaged(f"a length of {length} octets: damaged in frame")
        self._frames += 1
        self._known(interface.link)
        time_ns = 0 if kind == _SIMPLE else interface.offset * _SECOND + stamp * _SECOND // interface.units
        if not 0 <= time_ns < 1 << 64:
            self.clamped += 1
            time_ns = min(max(time_ns, 0), (1 << 64) - 1)
        return _Record(time_ns, interface.link, body[fixed : fixed + length], wire)

    # ---- IP

    def _ip_at(self, link: int, octets: bytes) -> tuple[int, int]:
        """Returns the IP version that the packet should have (0: any, -1: it is not IP), and where it begins."""
        if link in _RAW:
            return _RAW[link], 0
        if link in _LOOPBACK:
            return _FAMILIES.get(int.from_bytes(octets[:4], "big"), -1), 4
        type_at, at = _LINKS[link]
        while octets[type_at : type_at + 2] in _TAGS:
            type_at, at = at + 2, at + 4
        return _ETHERTYPES.get(octets[type_at : type_at + 2], -1), at

    def _malformed(self, what: str) -> None:
        self.skipped.malformed_frames += 1
        self.fault(f"frame {self._frames}: {what}")

    def _ip_packet(self, record: _Record) -> bytes | None:
        should, at = self._ip_at(record.link, record.octets)
        packet = record.octets[at:]
        version = packet[0] >> 4 if packet else -1
        if should < 0 or version < 0 or not should and version not in (4, 6):
            self.skipped.not_ip += 1
            return None
        if should and version != should:
            self._malformed(f"IP version {version} in a frame of IPv{should}")
            return None
        if len(packet) < (_IPV4_LEN if version == 4 else _IPV6_LEN):
            self.skipped.cut += 1
            return None
        if version == 4:
            length = int.from_bytes(packet[2:4], "big")
            if length < _IPV4_LEN:
                why = ": BIG TCP, or a segment as it was before it was cut" if length == 0 else ""
                self._malformed(f"IPv4 total length {length}{why}")
                return None
            header = 4 * (packet[0] & 0xF)
            if not _IPV4_LEN <= header <= length:
                self._malformed(f"IPv4 header length {header}")
                return None
        else:
            length = _IPV6_LEN + int.from_bytes(packet[4:6], "big")
            behind = max(record.wire - at, len(packet)) - _IPV6_LEN
            if length == _IPV6_LEN and behind > 0 and packet[6] != _NO_NEXT_HEADER:
                self._malformed("IPv6 payload length 0: a jumbogram, or BIG TCP")
                return None
        if length > len(packet):
            self.skipped.cut += 1
            return None
        return packet[:length]


class Writer:
    """Writes IP packets: link type raw, nanoseconds, as pcap or as pcapng."""

    def __init__(self, file: BinaryIO, pcapng: bool = False) -> None:
        self._file, self._pcapng = file, pcapng
        if not pcapng:
            file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, _MAX_FRAME, LINKTYPE_RAW))
            return
        file.write(struct.pack("<IIIHHqI", _SECTION, 28, 0x1A2B3C4D, 1, 0, -1, 28))
        resolution = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)  # nanoseconds
        file.write(struct.pack("<IIHHI", _INTERFACE, 32, LINKTYPE_RAW, 0, _MAX_FRAME) + resolution + struct.pack("<I", 32))

    def write(self, time_ns: int, *parts: bytes | memoryview) -> None:
        """Appends one packet, in parts."""
        size = sum(map(len, parts))
        if not self._pcapng:
            seconds, fraction = divmod(time_ns, _SECOND)
            # What comes of pcapng may lie behind the last second that pcap has.
            self._file.write(struct.pack("<IIII", min(seconds, 0xFFFFFFFF), fraction, size, size))
            self._file.writelines(parts)
            return
        block = 32 + size + -size % 4
        self._file.write(struct.pack("<IIIIIII", _ENHANCED, block, 0, time_ns >> 32, time_ns & 0xFFFFFFFF, size, size))
        self._file.writelines(parts)
        self._file.write(bytes(-size % 4) + struct.pack("<I", block))


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
