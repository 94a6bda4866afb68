# SPDX-License-Identifier: BSD-3-Clause
"""Security Headers, read without keys: for tools that look at captures. Nothing read here is authentic."""

from __future__ import annotations

from dataclasses import dataclass

from . import _abi
from ._types import Buffer, Level, Status, V
from .errors import HeaderError
from .packets import octets_of

_PAD1, _PADN, _FIRST_KEY_OPTION = 0, 1, 0xE0


@dataclass(frozen=True)
class MasterKeyOption:
    """Says which root key of a level was used; index has the low 8 bits of the root key's."""

    level: Level
    index: int
    root_key_id: bytes


@dataclass(frozen=True)
class Header:
    """The fields of a Security Header. len: its octets."""

    v: V
    id: int
    epoch: int
    counter: int
    coffset: int
    ioffset: int
    options: tuple[MasterKeyOption, ...]
    len: int

    @classmethod
    def parse(cls, packet: Buffer) -> Header:
        """Reads the header of a whole packet. HeaderError, with the same status as opening, if it is malformed."""
        octets = bytes(octets_of(packet, "packet")[: _abi.MAX_HEADER])
        size = memoryview(packet).nbytes  # type: ignore[arg-type]
        if size < _abi.MIN_HEADER + _abi.ICV_LEN:
            raise HeaderError(Status.SHORT)
        word = int.from_bytes(octets[:4], "big")
        if word >> 28:
            raise HeaderError(Status.VERSION)
        try:
            v = V(word >> 20 & 0xF)
        except ValueError:
            raise HeaderError(Status.V) from None
        if word >> 12 & 0xFF:
            raise HeaderError(Status.RESERVED)
        length = ((word >> 24 & 0xF) + 1) * 8
        options_at = 12 if v & 0x8 else 8
        if length < options_at + 8:
            raise HeaderError(Status.HEADER_LEN)
        if size < length + _abi.ICV_LEN:
            raise HeaderError(Status.SHORT)
        options = _parse_options(octets[options_at : length - 8])
        coffset, ioffset = word >> 4 & 0xFF, word & 0xF
        if ioffset > coffset or 4 * coffset > size - length - _abi.ICV_LEN:
            raise HeaderError(Status.OFFSET)
        return cls(
            v=v,
            id=int.from_bytes(octets[4:options_at], "big"),
            epoch=int.from_bytes(octets[length - 8 : length - 6], "big"),
            counter=int.from_bytes(octets[length - 6 : length], "big"),
            coffset=coffset,
            ioffset=ioffset,
            options=options,
            len=length,
        )


def _parse_options(area: bytes) -> tuple[MasterKeyOption, ...]:
    options: list[MasterKeyOption] = []
    padding = at = 0
    while at < len(area):
        kind = area[at]
        if kind == _PAD1:
            at += 1
            padding += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            raise HeaderError(Status.OPTION)
        body = area[at + 2 : at + 2 + area[at + 1]]
        at += 2 + len(body)
        if kind == _PADN:
            if any(body):
                raise HeaderError(Status.OPTION)
            padding += 2 + len(body)
            continue
        level = kind - _FIRST_KEY_OPTION
        if padding or not 0 <= level < _abi.LEVEL_COUNT or (options and level <= options[-1].level):
            raise HeaderError(Status.OPTION)
        options.append(_parse_key_option(Level(level), body))
    if padding >= 8:
        raise HeaderError(Status.OPTION)
    return tuple(options)


def _parse_key_option(level: Level, body: bytes) -> MasterKeyOption:
    if len(body) < 2:
        raise HeaderError(Status.OPTION)
    index, padding = body[:2]
    end = len(body) - padding
    if (
        padding > 3
        or not _abi.MIN_ROOT_KEY_ID <= end - 2 <= _abi.MAX_ROOT_KEY_ID
        or (2 + len(body)) % 4
        or any(body[end:])
    ):
        raise HeaderError(Status.OPTION)
    return MasterKeyOption(level, index, body[2:end])
