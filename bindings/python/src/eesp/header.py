# SPDX-License-Identifier: BSD-3-Clause
"""Reads headers without keys, for tools that inspect captures. Nothing read here is authentic."""

from __future__ import annotations

from dataclasses import dataclass

from . import _abi
from ._types import Buffer, Level, PspVersion, Status, V
from .errors import HeaderError
from .packets import octets_of

_PAD1, _PADN, _FIRST_KEY_OPTION = 0, 1, 0xE0
_CRYPT_OFFSET, _FLOW_ID, _PRIVATE = 2, 3, 224
_BASE, _INFO, _NUMBER = 8, 4, 8
_SHORTEST, _TSS_SHORTEST = 16, 12


def _front_of(packet: Buffer, shortest: int) -> tuple[bytes, int]:
    """Returns the octets that may belong to a header, and the length of the packet."""
    view = octets_of(packet, "packet")
    if len(view) < shortest + _abi.ICV_LEN:
        raise HeaderError(Status.SHORT)
    return bytes(view[: _BASE + 255 + 2 * _NUMBER]), len(view)


def _number(octets: bytes, at: int, size: int) -> int:
    return int.from_bytes(octets[at : at + size], "big")


@dataclass(frozen=True)
class MasterKeyOption:
    """Says which root key of a level was used; index has the low 8 bits of the root key's."""

    level: Level
    index: int
    root_key_id: bytes


@dataclass(frozen=True)
class Header:
    """The fields of a Security Header (profile stateless). len: its length in octets."""

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
        octets, size = _front_of(packet, _SHORTEST)
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


@dataclass(frozen=True)
class PspHeader:
    """The fields of a header of profile psp.

    coffset counts from the start of the payload (GMAC: 0). offset is the header's field, which counts from the end of the
    IV. extension: the octets behind the IV; from 4*offset on they are encrypted (not with GMAC). vc: the VC at the start
    of the extension, empty if there is none.
    """

    version: PspVersion
    spi: int
    iv: int
    coffset: int
    next_header: int
    vc: bytes
    len: int
    extension: bytes = b""
    offset: int = 0

    @classmethod
    def parse(cls, packet: Buffer) -> PspHeader:
        """Reads the header of a whole packet. HeaderError, with the same status as opening, if it is malformed."""
        octets, size = _front_of(packet, _SHORTEST)
        number, has_vc = octets[3] >> 2 & 0xF, octets[3] >> 1 & 1
        if number > max(PspVersion):
            raise HeaderError(Status.VERSION)
        version, length, field = PspVersion(number), 8 + 8 * octets[1], octets[2] & 0x3F
        if not octets[3] & 1:
            raise HeaderError(Status.RESERVED)
        if octets[1] < 1 + has_vc:
            raise HeaderError(Status.HEADER_LEN)
        if size < length + _abi.ICV_LEN:
            raise HeaderError(Status.SHORT)
        if 16 + 4 * field + _abi.ICV_LEN > size:
            raise HeaderError(Status.OFFSET)
        encrypts = version in (PspVersion.AES_128_GCM, PspVersion.AES_256_GCM)
        extension = bytes(octets_of(packet, "packet")[16:length])
        return cls(
            version=version,
            spi=_number(octets, 4, 4),
            iv=_number(octets, 8, 8),
            coffset=max(field - len(extension) // 4, 0) if encrypts else 0,
            next_header=octets[0],
            vc=extension[: 8 * has_vc],
            len=length,
            extension=extension,
            offset=field,
        )


@dataclass(frozen=True)
class TssHeader:
    """The fields of a header of profile tss, without the prefix in front of it. ssi: None if there is none."""

    an: int
    sdi: int
    ssi: int | None
    epoch: int
    counter: int
    len: int

    @classmethod
    def parse(cls, packet: Buffer) -> TssHeader:
        """Reads the header of a whole packet. HeaderError, with the same status as opening, if it is malformed."""
        octets, size = _front_of(packet, _TSS_SHORTEST)
        if octets[0] >> 3 != 1:
            raise HeaderError(Status.VERSION)
        if octets[0] & 2:
            raise HeaderError(Status.RESERVED)
        has_ssi = octets[0] >> 2 & 1
        length = _TSS_SHORTEST + 4 * has_ssi
        if size < length + _abi.ICV_LEN:
            raise HeaderError(Status.SHORT)
        return cls(
            an=octets[0] & 1,
            sdi=_number(octets, 1, 3),
            ssi=_number(octets, 4, 4) if has_ssi else None,
            epoch=_number(octets, length - 8, 2),
            counter=_number(octets, length - 6, 6),
            len=length,
        )


@dataclass(frozen=True)
class EespHeader:
    """The fields of a header of profile eesp. len: up to Payload Info Header or payload.

    coffset: the option CryptOffset, 0 if there is none. flow_id: None if there is no such option.
    """

    spi: int
    session: int
    sequence: int | None
    iv: int | None
    coffset: int
    flow_id: bytes | None
    len: int

    @classmethod
    def parse(
        cls, packet: Buffer, *, sequence: bool = True, iv: bool = False, optimized: bool = False, draft: int = 3
    ) -> EespHeader:
        """Reads the header of a whole packet of an SA with these parameters (see TrustGroup); they are not in packets.

        HeaderError, with the same status as opening, if it is malformed, whatever the SA.
        """
        peer, info = _NUMBER * (sequence + iv), 0 if optimized else _INFO
        octets, size = _front_of(packet, _SHORTEST)
        if octets[0] >> 3 != 0x10:
            raise HeaderError(Status.VERSION)
        if octets[0] & 7:
            raise HeaderError(Status.RESERVED)
        if size < _BASE + peer + info + _abi.ICV_LEN:
            raise HeaderError(Status.SHORT)
        if octets[1] % 4:
            raise HeaderError(Status.HEADER_LEN)
        peer_at = _BASE + octets[1]
        length = peer_at + peer
        if size < length + info + _abi.ICV_LEN:
            raise HeaderError(Status.SHORT)
        offset, flow_id = _parse_eesp_options(octets[_BASE:peer_at], draft == _abi.DRAFT_02)
        coffset = 0
        if offset is not None:
            coffset = offset >> 4 & 0x3F
            if optimized or 4 * (offset >> 10) != length or length + 4 * coffset + _abi.ICV_LEN > size:
                raise HeaderError(Status.OFFSET)
        number = _number(octets, peer_at, _NUMBER) if sequence else None
        if number == 0:
            raise HeaderError(Status.SEQUENCE)
        return cls(
            spi=_number(octets, 4, 4),
            session=_number(octets, 2, 2),
            sequence=number,
            iv=_number(octets, length - _NUMBER, _NUMBER) if iv else None,
            coffset=coffset,
            flow_id=flow_id,
            len=length,
        )


def _parse_eesp_options(area: bytes, flow_ids: bool) -> tuple[int | None, bytes | None]:
    """Returns the data of the options Crypt Offset and Flow Identifier (draft -02 only)."""
    offset: int | None = None
    flow_id: bytes | None = None
    at = 0
    while at < len(area):
        kind = area[at]
        if kind == _PAD1:
            at += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            raise HeaderError(Status.OPTION)
        body = area[at + 2 : at + 2 + area[at + 1]]
        at += 2 + len(body)
        if kind == _CRYPT_OFFSET and offset is None and len(body) == 2:
            offset = int.from_bytes(body, "big")
        elif kind == _FLOW_ID and flow_id is None and flow_ids:
            flow_id = body
        elif kind < _PRIVATE and (kind != _PADN or any(body)):
            raise HeaderError(Status.OPTION)
    return offset, flow_id
