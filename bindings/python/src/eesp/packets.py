# SPDX-License-Identifier: BSD-3-Clause
"""Packets in buffers, and the bursts that seal and open them.

A burst's descriptors (eesp_pkt, 128 octets each) are written and read column by column through memoryviews with a
stride, so that no Python code runs for each packet unless offsets and lengths come as Python sequences.
"""

from __future__ import annotations

import array
import ctypes
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import add
from operator import index as number_of
from typing import Any, NamedTuple, SupportsIndex, Union, overload

from . import _abi
from ._types import AddressPair, Buffer, Offsets, Status, address
from .errors import error_of
from .secret import Secret

_PKT = ctypes.sizeof(_abi.Pkt)
_MAX_SEGMENTS = 0xFFFF
_CHUNK = 4096  # packets of one call: as many as have their descriptors (512 KiB) in the second-level cache


class _PyBuffer(ctypes.Structure):
    """Py_buffer, part of Python's stable ABI."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_get_buffer = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p, ctypes.c_int)(
    ("PyObject_GetBuffer", ctypes.pythonapi)
)
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("PyBuffer_Release", ctypes.pythonapi))


def need(value: object, kind: Any, name: str) -> None:
    """TypeError with the argument's name, unless it is of a class, or of one of several."""
    if not isinstance(value, kind):
        kinds = "a number" if kind is SupportsIndex else " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise TypeError(f"{name}: {kinds} is needed, not {type(value).__name__}")


def octets_of(buffer: Buffer, name: str, *, writable: bool = False) -> memoryview:
    """Returns a view of a buffer's octets, which keeps it from being resized; ValueError if it cannot be used."""
    try:
        view = buffer.view() if isinstance(buffer, Secret) else memoryview(buffer)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    except TypeError:
        raise TypeError(f"{name}: a buffer of octets is needed, not {type(buffer).__name__}") from None
    if not view.c_contiguous:
        raise ValueError(f"{name} is strided: its octets do not follow one another; copy it first")
    if writable and view.readonly:
        raise ValueError(f"{name} is read-only")
    # cast() refuses shapes with a zero in them.
    return view.cast("B") if view.nbytes else memoryview(b"" if view.readonly else bytearray())


def address_of(view: memoryview) -> int:
    """Returns the address of a view's octets, which is valid as long as the view."""
    raw = _PyBuffer()
    _get_buffer(view, ctypes.addressof(raw), 0)
    found: int = raw.buf or 0
    _release_buffer(ctypes.addressof(raw))
    return found


def _numbers(values: Iterable[int], name: str) -> array.array[int]:
    """Numbers of any kind, as 64-bit ones; memoryview reads NumPy's faster than iterating does."""
    try:
        if not isinstance(values, (list, tuple, range, array.array)):
            try:
                values = memoryview(values).tolist()  # type: ignore[arg-type]
            except TypeError:
                pass
        return array.array("Q", values)
    except (OverflowError, TypeError):
        raise ValueError(f"{name} must be numbers from 0 to 2^64-1") from None


class Packets(Sequence[memoryview]):
    """Packets in one buffer: packet i is buffer[offsets[i] : offsets[i] + lengths[i]].

    Without lengths, offsets has one more number than there are packets, and each packet ends where the next begins.
    Nothing is copied: the buffer stays in use (a bytearray cannot be resized) as long as the object lives. Reuse the
    object for the same places: they are checked once.
    """

    __slots__ = ("_buffer", "_base", "_offsets", "_lengths", "_pointers", "_packed", "_apart")

    def __init__(self, buffer: Buffer, offsets: Iterable[int], lengths: Iterable[int] | None = None) -> None:
        view = octets_of(buffer, "buffer")
        starts = _numbers(offsets, "offsets")
        if lengths is None:
            if not starts:
                raise ValueError("offsets without lengths: give one more than there are packets")
            sizes = array.array("q", map(int.__sub__, starts[1:], starts[:-1]))
            if sizes and min(sizes) < 0:
                raise ValueError("offsets without lengths must not decrease")
            del starts[-1]
            self._place(view, starts, array.array("Q", sizes))
        else:
            self._place(view, starts, _numbers(lengths, "lengths"))

    def _place(self, view: memoryview, offsets: array.array[int], lengths: array.array[int]) -> None:
        if len(offsets) != len(lengths):
            raise ValueError(f"{len(offsets)} offsets, but {len(lengths)} lengths")
        if offsets and max(map(add, offsets, lengths)) > len(view):
            raise ValueError(f"a packet goes beyond the buffer's {len(view)} octets")
        if lengths and max(lengths) > 0xFFFFFFFF:
            raise ValueError("a packet is longer than 2^32-1 octets")
        self._set(view, address_of(view), offsets, lengths)

    def _set(self, view: memoryview, base: int, offsets: array.array[int], lengths: array.array[int]) -> None:
        self._buffer, self._base, self._offsets, self._lengths = view, base, offsets, lengths
        self._pointers: array.array[int] | None = None
        self._packed: tuple[int, array.array[int], array.array[int], int] | None = None
        self._apart = False  # known not to overlap

    @classmethod
    def rows(cls, matrix: Buffer, lengths: Iterable[int] | None = None) -> Packets:
        """Makes Packets of the rows of a two-dimensional array of octets, one from the start of each row."""
        view = memoryview(matrix)  # type: ignore[arg-type]
        if view.ndim != 2 or view.itemsize != 1:
            raise ValueError("rows() needs a two-dimensional array of octets")
        assert view.shape is not None
        count, width = view.shape
        if lengths is None:
            sizes = array.array("Q", [width]) * count
        else:
            sizes = _numbers(lengths, "lengths")
            if sizes and max(sizes) > width:
                raise ValueError(f"a packet is longer than its row of {width} octets")
        return cls(matrix, range(0, count * width, width) if width else [0] * count, sizes)

    @classmethod
    def join(cls, buffers: Iterable[Buffer]) -> Packets:
        """Copies buffers, one behind the other."""
        if isinstance(buffers, (bytes, bytearray, memoryview, Secret)):
            raise TypeError("a sequence of buffers is needed; for one packet there are seal_one and open_one")
        if _is_flat(buffers):
            raise TypeError("an array of numbers is not a sequence of buffers; rows() takes a two-dimensional one")
        parts: list[Any] = list(buffers)
        if not all(type(part) is bytes for part in parts):
            parts = [octets_of(part, f"packet {i}") for i, part in enumerate(parts)]
        made = cls.__new__(cls)
        joined = memoryview(b"".join(parts))
        sizes = array.array("Q", map(len, parts))
        made._place(joined, array.array("Q", accumulate(sizes, initial=0))[:-1], sizes)
        return made

    @property
    def buffer(self) -> memoryview:
        """The buffer's octets."""
        return self._buffer[:]  # a view of its own: to release it does not let the buffer go

    @property
    def offsets(self) -> memoryview:
        """Where the packets begin (64-bit numbers, read-only)."""
        return memoryview(self._offsets).toreadonly()

    @property
    def lengths(self) -> memoryview:
        """The lengths of the packets (64-bit numbers, read-only)."""
        return memoryview(self._lengths).toreadonly()

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: SupportsIndex) -> memoryview: ...

    @overload
    def __getitem__(self, index: slice) -> list[memoryview]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> memoryview | list[memoryview]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        offset = self._offsets[index]
        return self._buffer[offset : offset + self._lengths[index]]

    def __iter__(self) -> Iterator[memoryview]:
        buffer = self._buffer
        for offset, length in zip(self._offsets, self._lengths):
            yield buffer[offset : offset + length]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} in {len(self._buffer)} octets>"

    def _addresses(self) -> array.array[int]:
        if self._pointers is None:
            base = self._base
            self._pointers = array.array("Q", [base + offset for offset in self._offsets])
        return self._pointers

    def _layout(self, extra: int) -> tuple[array.array[int], array.array[int], int]:
        """Returns offsets, sizes and total of results, side by side, that are `extra` octets longer (or shorter)."""
        if self._packed is None or self._packed[0] != extra:
            if extra >= 0:
                sizes = array.array("Q", [length + extra for length in self._lengths])
            else:
                sizes = array.array("Q", [max(length + extra, 0) for length in self._lengths])
            offsets = array.array("Q", accumulate(sizes, initial=0))
            total = offsets.pop()
            self._packed = extra, offsets, sizes, total
        return self._packed[1:]

    def _check_apart(self) -> None:
        """Checks that no place to write to overlaps another."""
        if not self._apart:
            free = 0
            for start, length in sorted(zip(self._offsets, self._lengths)):
                if length and start < free:
                    raise ValueError(f"the place at offset {start} overlaps another one")
                free = max(free, start + length)
            self._apart = True


def _is_flat(buffers: object) -> bool:
    try:
        return memoryview(buffers).ndim <= 1  # type: ignore[arg-type]
    except TypeError:
        return False


class _Outcome:
    """The outcome of each packet of a burst."""

    __slots__ = ()

    good: int
    status: array.array[int]
    ids: array.array[int]
    tscs: array.array[int]
    coffsets: bytes
    ioffsets: bytes
    next_headers: bytes

    @property
    def ok(self) -> bool:
        """Whether all packets have status OK."""
        return self.good == len(self.status)

    def failures(self) -> dict[int, Status]:
        """The packets that failed, and why."""
        if self.ok:
            return {}
        return {i: error_of(status).status for i, status in enumerate(self.status) if status}

    def raise_for_status(self) -> None:
        """Raises the first packet's error, if there is one."""
        count = len(self.status)
        for i, status in enumerate(self.status):
            if status:
                raise error_of(status, f"packet {i} of {count}" if count > 1 else "")

    def epoch(self, index: int) -> int:
        """A packet's Epoch."""
        return self.tscs[index] >> 48

    def counter(self, index: int) -> int:
        """A packet's Counter."""
        return self.tscs[index] & (1 << 48) - 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.status)} packets, {self.good} good>"


class Result(_Outcome, Packets):
    """The packets that a burst made, with a status for each. One that failed is empty.

    status, ids, tscs, coffsets, ioffsets and next_headers are arrays with an entry for each packet; NumPy takes them
    without a copy. All but status of a packet that was opened are authentic only if its status is OK.
    """

    __slots__ = ("good", "status", "ids", "tscs", "coffsets", "ioffsets", "next_headers")


class Chains(Sequence[list[memoryview]]):
    """Packets of several segments: packet i is the next counts[i] of the segments, one behind the other.

    As drivers deliver them (DPDK: a chain of mbufs). seal_chains and open_chains work on them in place.
    """

    __slots__ = ("_segments", "_firsts")

    def __init__(self, segments: Packets, counts: Iterable[int]) -> None:
        need(segments, Packets, "segments")
        numbers = _numbers(counts, "counts")
        if any(not 1 <= n <= _MAX_SEGMENTS for n in numbers):
            raise ValueError(f"counts: a packet has from 1 to {_MAX_SEGMENTS} segments")
        if sum(numbers) != len(segments):
            raise ValueError(f"counts: {sum(numbers)} segments, but there are {len(segments)}")
        self._segments = segments
        self._firsts = list(accumulate(numbers, initial=0))

    @property
    def segments(self) -> Packets:
        """All segments, in order."""
        return self._segments

    @property
    def counts(self) -> list[int]:
        """How many of them each packet has."""
        return [end - first for first, end in zip(self._firsts, self._firsts[1:])]

    def __len__(self) -> int:
        return len(self._firsts) - 1

    @overload
    def __getitem__(self, index: SupportsIndex) -> list[memoryview]: ...

    @overload
    def __getitem__(self, index: slice) -> list[list[memoryview]]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> list[memoryview] | list[list[memoryview]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        return self._segments[self._firsts[i] : self._firsts[i + 1]]

    def joined(self) -> list[bytes]:
        """Each packet's octets in one piece, copied."""
        return [b"".join(packet) for packet in self]

    def __repr__(self) -> str:
        return f"<Chains: {len(self)} packets of {len(self._segments)} segments>"

    def _edge(self, rooms: Sequence[int], last: bool) -> list[int]:
        """Returns headroom or tailroom for each segment: its packet's for the first or the last one, else 0."""
        made = [0] * len(self._segments)
        for at, room in zip(self._firsts[1:] if last else self._firsts, rooms):
            made[at - last] = room
        return made

    def _starts(self) -> Packets:
        """The first segments alone."""
        firsts = self._firsts[:-1]
        made = Packets.__new__(Packets)
        offsets, lengths = self._segments._offsets, self._segments._lengths
        made._set(
            self._segments._buffer,
            self._segments._base,
            array.array("Q", [offsets[i] for i in firsts]),
            array.array("Q", [lengths[i] for i in firsts]),
        )
        return made

    def _spread(self, outs: Iterable[int], sizes: Iterable[int], sealed: bool) -> tuple[Packets, list[int]]:
        """Finds the segments of a result of size octets that begins at address out. sealed: it has grown at both ends."""
        source, base = self._segments, self._segments._base
        offsets, lengths, firsts = array.array("Q"), array.array("Q"), [0]
        for first, end, out, size in zip(self._firsts, self._firsts[1:], outs, sizes):
            found, left = False, size
            for i in range(first, end) if out else ():
                start, stop, last = source._offsets[i], source._offsets[i] + source._lengths[i], i + 1 == end
                if not found:
                    at = out - base
                    # A segment that is all header has no part in what was opened.
                    if not sealed and not (start <= at < stop or (at == stop and not left)):
                        continue
                    found, start = True, at
                n = left if last else min(left, stop - start)
                offsets.append(start)
                lengths.append(n)
                left -= n
            if not found:
                offsets.append(source._offsets[first])
                lengths.append(0)
            firsts.append(len(offsets))
        made = Packets.__new__(Packets)
        made._set(source._buffer, base, offsets, lengths)
        return made, firsts


class ChainedResult(_Outcome, Chains):
    """The chains that a burst made, with the fields of Result. A packet that failed is one empty segment."""

    __slots__ = ("good", "status", "ids", "tscs", "coffsets", "ioffsets", "next_headers")


PacketsLike = Union[Packets, Sequence[Buffer]]
#: Octets in front of tss headers, of one length for IPv4 and another for IPv6: for all packets, or one for each.
Leads = Union[bytes, bytearray, memoryview, Sequence[Buffer]]
#: Whether the octets in front of tss headers are IPv6's: all, or of each packet.
Families = Union[bool, Sequence[bool]]
Addresses = Union[AddressPair, Sequence[AddressPair], bytes, bytearray, memoryview]


def as_packets(packets: PacketsLike) -> Packets:
    """Returns Packets unchanged, and joins other sequences."""
    return packets if isinstance(packets, Packets) else Packets.join(packets)


def _pack_addresses(addresses: Addresses, count: int) -> bytes:
    """32 octets for each packet, or for all."""
    if isinstance(addresses, (bytes, bytearray, memoryview)):
        packed = bytes(addresses)
        if len(packed) not in (32, 32 * count):
            raise ValueError(f"addresses: 32 octets, or 32 for each packet, are needed, not {len(packed)}")
        return packed
    if isinstance(addresses, tuple) and len(addresses) == 2 and not isinstance(addresses[0], tuple):
        return address(addresses[0]) + address(addresses[1])
    given: Any = addresses
    try:
        pairs = [(src, dst) for src, dst in given]
    except (TypeError, ValueError):
        raise TypeError("addresses: a pair (source, destination), or one for each packet, is needed") from None
    packed = b"".join(address(src) + address(dst) for src, dst in pairs)
    if len(packed) != 32 * count:
        raise ValueError(f"{len(packed) // 32} pairs of addresses for {count} packets")
    return packed


def _octet_column(values: Offsets, count: int, name: str) -> list[int] | int:
    """One octet, or a list with one for each packet."""
    if isinstance(values, (int, float)) or values is None or not hasattr(values, "__iter__"):
        return _octet(values, name)
    try:
        column = [number_of(value) for value in values]
    except TypeError:
        column = [-1]
    if len(column) != count or (column and not (min(column) >= 0 and max(column) <= 0xFF)):
        raise ValueError(f"{name}: a number from 0 to 255 for each packet is needed")
    return column


def _octet(value: object, name: str) -> int:
    if not isinstance(value, int) and not isinstance(value, SupportsIndex):
        raise TypeError(f"{name}: a number is needed, not {type(value).__name__}")
    number = number_of(value)
    if not 0 <= number <= 0xFF:
        raise ValueError(f"{name} must be from 0 to 255")
    return number


_LEAD_LENS = _abi.TSS_LEAD_IPV4, _abi.TSS_LEAD_IPV6


def lead_of(lead: Buffer) -> bytes:
    """Copies a prefix of tss."""
    octets = bytes(octets_of(lead, "lead"))
    if len(octets) not in _LEAD_LENS:
        raise ValueError(f"a lead has {_LEAD_LENS[0]} octets (IPv4) or {_LEAD_LENS[1]} (IPv6), not {len(octets)}")
    return octets


class Fronts(NamedTuple):
    """The prefixes of packets of profile tss. octets: None if they are in front of the packets already."""

    octets: list[bytes] | None
    sizes: list[int]

    @property
    def flags(self) -> list[int]:
        """For descriptors."""
        return [_abi.PKT_IPV6 if size == _abi.TSS_LEAD_IPV6 else 0 for size in self.sizes]

    def write(self, buffer: memoryview, starts: Iterable[int]) -> None:
        """Puts them into a buffer."""
        for start, lead in zip(starts, self.octets or ()):
            buffer[start : start + len(lead)] = lead

    def join(self, packets: Packets) -> Packets:
        """Copies packets, each behind its lead."""
        assert self.octets is not None
        both = Packets.join([part for pair in zip(self.octets, packets) for part in pair])
        return Packets(both._buffer, both._offsets[1::2], both._lengths[1::2])


def fronts_of(leads: Leads | None, ipv6: Families, count: int) -> Fronts:
    """Returns the prefixes of packets: given, or in front of them."""
    if leads is None:
        kinds = [ipv6] * count if isinstance(ipv6, bool) else list(ipv6)
        if len(kinds) != count:
            raise ValueError(f"ipv6: {len(kinds)} of them for {count} packets")
        return Fronts(None, [_LEAD_LENS[bool(kind)] for kind in kinds])
    if ipv6 is not False:
        raise ValueError("ipv6 is for packets that have their leads in front: given leads tell it by their length")
    if isinstance(leads, (bytes, bytearray, memoryview)):
        made = [lead_of(leads)] * count
    else:
        made = [lead_of(lead) for lead in leads]
    if len(made) != count:
        raise ValueError(f"{len(made)} leads for {count} packets")
    return Fronts(made, [len(lead) for lead in made])


class _Arena:
    """Descriptors of a chunk, and a view of them for each width of field.

    iov, flags, next_header and addresses are zero between calls.
    """

    __slots__ = ("base", "u64", "u32", "u8")

    def __init__(self) -> None:
        self.u8 = memoryview(bytearray(_PKT * _CHUNK))
        self.u32, self.u64 = self.u8.cast("I"), self.u8.cast("Q")
        self.base = address_of(self.u8)


# Taken and given back in one step each, so that calls in other threads, or in a signal handler, find another one.
_free_arenas: list[_Arena] = []

# Fields as indices of their columns.
_DATA, _LEN, _TAIL, _IOV, _DST, _DST_SIZE, _OUT, _ADDR, _ID, _TSC, _OUT_ADDR = (
    getattr(_abi.Pkt, name).offset // 8
    for name in ("data", "len", "tailroom", "iov", "dst", "dst_size", "out", "addr", "id", "tsc", "out_addr")
)
_STATUS, _OUT_LEN = (getattr(_abi.Pkt, name).offset // 4 for name in ("status", "out_len"))
_COFFSET, _IOFFSET, _NEXT = (getattr(_abi.Pkt, name).offset for name in ("coffset", "ioffset", "next_header"))
# The word that out_len is in, and after it flags, next_header and a reserved octet.
_KIND = _abi.Pkt.out_len.offset // 8
_U64, _U32 = _PKT // 8, _PKT // 4


def _constant(value: int, count: int) -> array.array[int]:
    return array.array("Q", [value]) * count


def run_burst(
    handle: int,
    function: Callable[..., int],
    source: Packets,
    *,
    out: Packets | None = None,
    headroom: int | Sequence[int] = 0,
    tailroom: int = 0,
    coffset: Offsets = 0,
    ioffset: Offsets = 0,
    next_header: Offsets = 0,
    flags: Sequence[int] | None = None,
    addresses: Addresses | None = None,
    out_addresses: Addresses | None = None,
    moved: bool = False,
    tells_next: bool = False,
    chains: Chains | None = None,
) -> Result:
    """Calls a burst function, once for every CHUNK packets. out: a place for each result; without it, in place.

    moved: results need not begin at the start of their places. tells_next: the function writes next_header. chains: source
    has their first segments; a packet of the result begins in its first segment, and has the length of all of them.
    """
    count = len(source)
    lengths = source._lengths
    if not isinstance(headroom, int):
        lengths = array.array("Q", [length | room << 32 for length, room in zip(lengths, headroom)])
    elif headroom:
        lengths = array.array("Q", [length | headroom << 32 for length in lengths])
    rooms = _octet_column(coffset, count, "coffset"), _octet_column(ioffset, count, "ioffset")
    if isinstance(rooms[0], int) and isinstance(rooms[1], int):
        tails = _constant(tailroom | rooms[0] << 32 | rooms[1] << 40, count)
    else:
        columns = [[room] * count if isinstance(room, int) else room for room in rooms]
        tails = array.array("Q", [tailroom | c << 32 | i << 40 for c, i in zip(*columns)])
    protocols = _octet_column(next_header, count, "next_header")
    zeros = _constant(0, count)
    rare: list[tuple[int, array.array[int]]] = []
    if chains is not None:
        # eesp_iov: where a segment is, and how long.
        every = chains._segments
        segments = array.array("Q", [n for pair in zip(every._addresses(), every._lengths) for n in pair])
        table, _ = segments.buffer_info()
        rare.append((_IOV, array.array("Q", [table + 16 * first for first in chains._firsts[:-1]])))
        tails = array.array("Q", [tail | n << 48 for tail, n in zip(tails, chains.counts)])
    inputs = [
        (_DATA, source._addresses()),
        (_LEN, lengths),
        (_TAIL, tails),
        (_DST, zeros if out is None else out._addresses()),
        (_DST_SIZE, zeros if out is None else out._lengths),
    ]
    if addresses is not None:
        words = array.array("Q", _pack_addresses(addresses, count))
        if len(words) == 4:
            rare += [(_ADDR + i, _constant(word, count)) for i, word in enumerate(words)]
        else:
            rare += [(_ADDR + i, words[i::4]) for i in range(4)]
    if out_addresses is not None:
        outer = memoryview(_pack_addresses(out_addresses, count))
        at, step = address_of(outer), 0 if len(outer) == 32 else 32
        rare.append((_OUT_ADDR, array.array("Q", [at + i * step for i in range(count)])))
    if flags is not None or protocols or tells_next:
        numbers = [protocols] * count if isinstance(protocols, int) else protocols
        rare.append((_KIND, array.array("Q", [f << 32 | n << 48 for f, n in zip(flags or zeros, numbers)])))
    inputs += rare

    try:
        arena = _free_arenas.pop()
    except IndexError:
        arena = _Arena()
    u64, u32, u8 = arena.u64, arena.u32, arena.u8
    result = Result.__new__(Result)
    good = 0
    status, sizes = array.array("i"), array.array("I")
    ids, tscs, outs = (array.array("Q") for _ in range(3))
    coffsets, ioffsets = b"", b""
    next_headers = bytes([protocols]) * count if isinstance(protocols, int) else bytes(protocols)
    if tells_next:
        next_headers = b""
    for first in range(0, count, _CHUNK):
        n = min(count - first, _CHUNK)
        end = n * _U64
        for field, values in inputs:
            u64[field:end:_U64] = values if n == count else values[first : first + n]
        done = function(handle, arena.base, n)
        good += done
        status.frombytes(bytes(4 * n) if done == n else u32[_STATUS : n * _U32 : _U32].tobytes())
        sizes.frombytes(u32[_OUT_LEN : n * _U32 : _U32].tobytes())
        ids.frombytes(u64[_ID:end:_U64].tobytes())
        tscs.frombytes(u64[_TSC:end:_U64].tobytes())
        coffsets += u8[_COFFSET : n * _PKT : _PKT].tobytes()
        ioffsets += u8[_IOFFSET : n * _PKT : _PKT].tobytes()
        if tells_next:
            next_headers += u8[_NEXT : n * _PKT : _PKT].tobytes()
        if out is None or moved:
            outs.frombytes(u64[_OUT:end:_U64].tobytes())
        for field, _ in rare:
            u64[field:end:_U64] = zeros[:n]
    _free_arenas.append(arena)

    result.good, result.status, result.ids, result.tscs = good, status, ids, tscs
    result.coffsets, result.ioffsets, result.next_headers = coffsets, ioffsets, next_headers
    if out is None or moved:
        target = source if out is None else out
        base = target._base
        outs = array.array("Q", [at - base if at else 0 for at in outs])
        result._set(target._buffer, base, outs, array.array("Q", sizes))
    else:
        result._set(out._buffer, out._base, out._offsets, array.array("Q", sizes))
    return result


def run_chains(
    handle: int, function: Callable[..., int], chains: Chains, *, sealed: bool, **how: Any
) -> ChainedResult:
    """Calls run_burst for chained packets."""
    flat = run_burst(handle, function, chains._starts(), chains=chains, **how)
    made = ChainedResult.__new__(ChainedResult)
    outs = [0 if status else flat._base + at for at, status in zip(flat._offsets, flat.status)]
    made._segments, made._firsts = chains._spread(outs, flat._lengths, sealed)
    for name in Result.__slots__:
        setattr(made, name, getattr(flat, name))
    return made


_ONE = struct.Struct("=QIIIBBHQQIiQIHBB32sQQQQ")  # eesp_pkt
assert _ONE.size == _PKT


def run_one(
    handle: int,
    function: Callable[..., int],
    packet: Buffer,
    extra: int,
    coffset: int = 0,
    ioffset: int = 0,
    next_header: int = 0,
    addresses: Addresses | None = None,
    lead: bytes = b"",
    lead_in_front: bool = False,
    flags: int = 0,
) -> tuple[bytes, int, int, int, int, int]:
    """Runs a burst of one packet. Returns octets, id, tsc, coffset, ioffset, next_header. Raises if the packet failed.

    lead: the prefix, profile tss; in front of the packet, or of the result.
    """
    view = octets_of(packet, "packet")
    length = len(view)
    if length > _abi.MAX_LEN + _abi.MAX_HEADER + _abi.MAX_PADDING + _abi.ICV_LEN:
        raise error_of(Status.TOO_LONG)
    if coffset or ioffset or next_header:
        coffset, ioffset = _octet(coffset, "coffset"), _octet(ioffset, "ioffset")
        next_header = _octet(next_header, "next_header")
    addr = bytes(32) if addresses is None else _pack_addresses(addresses, 1)
    headroom = at = 0
    size = max(length + extra, 1)
    if lead:
        flags = _abi.PKT_IPV6 if len(lead) == _abi.TSS_LEAD_IPV6 else 0
        if lead_in_front:
            view, headroom = memoryview(lead + view), len(lead)
        else:
            at = len(lead)
            size += at
    out = bytearray(size)
    out[:at] = lead[:at]
    out_view = memoryview(out)
    data, dst = address_of(view) + headroom, address_of(out_view)
    head = data, length, headroom, 0, coffset, ioffset, 0, 0, dst, size
    raw = bytearray(_ONE.pack(*head, 0, 0, 0, flags, next_header, 0, addr, 0, 0, 0, 0))
    function(handle, address_of(memoryview(raw)), 1)
    _, _, _, _, coffset, ioffset, _, _, _, _, status, _, out_len, _, next_header, _, _, id, tsc, _, _ = _ONE.unpack(raw)
    if status:
        raise error_of(status)
    return bytes(out_view[at : at + out_len]), id, tsc, coffset, ioffset, next_header


def place_results(source: Packets, out: Buffer | Packets | None, extra: int) -> Packets:
    """A place for each result: in a new buffer, side by side in the caller's, or where the caller says."""
    if isinstance(out, Packets):
        if len(out) != len(source):
            raise ValueError(f"out has {len(out)} places for {len(source)} packets")
        out._check_apart()
        places = out
    else:
        offsets, sizes, total = source._layout(extra)
        view = memoryview(bytearray(total)) if out is None else octets_of(out, "out", writable=True)
        if len(view) < total:
            raise ValueError(f"out has {len(view)} octets, {total} are needed")
        places = Packets.__new__(Packets)
        places._set(view, address_of(view), offsets, sizes)
    if places._buffer.readonly:
        raise ValueError("out is read-only")
    if out is not None:
        start, end = places._base, places._base + len(places._buffer)
        if start < source._base + len(source._buffer) and source._base < end:
            raise ValueError("out overlaps the packets; there are functions that work in place")
    return places


def check_rooms(packets: Packets, headroom: int | Sequence[int], tailroom: int | Sequence[int]) -> None:
    """In place: checks that the buffer is writable, and that no packet's headroom and tailroom overlap another packet's."""
    need(packets, Packets, "packets")
    if packets._buffer.readonly:
        raise ValueError("the packets are read-only")
    for room in headroom, tailroom:
        need(room, (int, list, tuple), "headroom or tailroom")
    rooms = [headroom] * len(packets) if isinstance(headroom, int) else headroom
    tails = [tailroom] * len(packets) if isinstance(tailroom, int) else tailroom
    if any(not 0 <= room <= 0xFFFFFFFF for room in (*rooms, *tails)):
        raise ValueError("headroom or tailroom is out of range")
    free = tail = 0
    # Where several are empty at one place, headroom is in front of it and tailroom behind.
    order = sorted(zip(packets._offsets, packets._lengths, rooms, tails), key=lambda p: (p[0], p[1], -p[2], p[3]))
    for start, length, room, tail in order:
        if start < free + room:
            raise ValueError(f"the packet at offset {start} has no headroom of {room} octets of its own")
        free = start + length + tail
    if free > len(packets._buffer):
        raise ValueError(f"the last packet has no tailroom of {tail} octets")
