# SPDX-License-Identifier: BSD-3-Clause
"""Layers for scapy: EespStateless, EespPsp, EespTss. (EESP itself is not here: it is close to scapy's own ESP.)

Importing this registers them for the UDP ports of the profiles; scapy must be installed. They show and build headers. What is
encrypted stays as it is: `open_layer` gives the packet that a receiver opened, `seal_layer` one that a sender sealed.

    from scapy.all import IP, UDP
    from eesp.scapy import EespPsp
    EespPsp(bytes_of_a_packet).show()
"""

from __future__ import annotations

from typing import Any

from scapy.fields import (
    BitEnumField,
    BitField,
    ByteEnumField,
    ByteField,
    ConditionalField,
    PacketListField,
    XIntField,
    XLongField,
    XStrLenField,
)
from scapy.layers.inet import UDP
from scapy.packet import Packet, Raw, bind_layers, split_layers

from ._abi import ICV_LEN, PSP_UDP_PORT, TSS_UDP_PORT, UDP_PORT

_LEVELS = {0xE0: "zone", 0xE1: "user", 0xE2: "task"}
_VS = {0: "DeviceID", 1: "DeviceID, source", 2: "DeviceID, source, destination", 8: "ConnectionID", 9: "ConnectionID, source",
       10: "ConnectionID, source, destination"}
_VERSIONS = {0: "AES-128-GCM", 1: "AES-256-GCM", 2: "AES-128-GMAC", 3: "AES-256-GMAC"}


class _Sealed(Packet):  # type: ignore[misc]
    """What is behind the header: ciphertext, and the ICV as the last 16 octets."""

    name = "sealed"

    @classmethod
    def least(cls, octets: bytes) -> int:
        """The octets of the fields that every such header has."""
        return 16

    @property
    def ciphertext(self) -> bytes:
        """All between header and ICV."""
        return bytes(self.payload)[:-ICV_LEN]

    @property
    def icv(self) -> bytes:
        """The last 16 octets."""
        return bytes(self.payload)[-ICV_LEN:]

    def guess_payload_class(self, payload: bytes) -> Any:
        """The payload is encrypted: there is no class for it."""
        return Raw


class EespStatelessOption(Packet):  # type: ignore[misc]
    """An option: padding, or a Master Key Option."""

    @classmethod
    def dispatch_hook(cls, _pkt: bytes | None = None, *_args: Any, **_options: Any) -> Any:
        """Data that ends before the option's fields do is not an option."""
        needed = 1 if not _pkt or _pkt[0] == 0 else 4 if _pkt[0] >= 0xE0 else 2
        return cls if not _pkt or len(_pkt) >= needed else Raw

    name = "option"
    fields_desc = [
        ByteEnumField("type", 0xE0, {0: "Pad1", 1: "PadN"} | _LEVELS),
        ConditionalField(ByteField("len", None), lambda p: p.type != 0),
        ConditionalField(ByteField("index", 0), lambda p: p.type >= 0xE0),
        ConditionalField(ByteField("pad", 0), lambda p: p.type >= 0xE0),
        ConditionalField(XStrLenField("root_key_id", b"", length_from=lambda p: max(0, p.len - 2 - p.pad)), lambda p: p.type >= 0xE0),
        ConditionalField(
            XStrLenField("padding", b"", length_from=lambda p: p.len if p.type == 1 else p.pad), lambda p: p.type != 0
        ),
    ]

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Sets the length."""
        if self.type != 0 and self.len is None:
            pkt = pkt[:1] + bytes([len(pkt) - 2]) + pkt[2:]
        return pkt + pay

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        """What follows is the next option."""
        return b"", s


class EespStateless(_Sealed):
    """draft-xia-ipsecme-eesp-stateless-encryption-02."""

    name = "EESP Stateless Encryption"
    fields_desc = [
        BitField("version", 0, 4),
        BitField("header_len", None, 4),
        BitEnumField("v", 0, 4, _VS),
        BitField("reserved", 0, 8),
        BitField("coffset", 0, 8),
        BitField("ioffset", 0, 4),
        ConditionalField(XIntField("device_id", 0), lambda p: p.v < 8),
        ConditionalField(XLongField("connection_id", 0), lambda p: p.v >= 8),
        PacketListField("options", [], EespStatelessOption, length_from=lambda p: p._options_len()),
        BitField("epoch", 0, 16),
        BitField("counter", 0, 48),
    ]

    @classmethod
    def least(cls, octets: bytes) -> int:
        """The length that the header says, with the long ID if V has one."""
        return max(8 * ((octets[0] & 15) + 1), 20 if len(octets) > 1 and octets[1] >> 4 & 8 else 16)

    def _options_len(self) -> int:
        # 8-octet units, not counting the first: the word, the ID, options, epoch and counter.
        return max(0, 8 * ((self.header_len or 0) + 1) - 4 - (4 if self.v < 8 else 8) - 8)

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Sets the header's length; options must have been padded to it."""
        if self.header_len is None:
            if len(pkt) % 8:
                raise ValueError("options are to be padded to a multiple of 8 octets")
            pkt = bytes([pkt[0] & 0xF0 | len(pkt) // 8 - 1]) + pkt[1:]
        return pkt + pay


class EespPsp(_Sealed):
    """Google PSP."""

    name = "PSP"
    fields_desc = [
        ByteField("next_header", 4),
        ByteField("header_len", None),
        BitField("reserved", 0, 2),
        BitField("crypt_offset", 0, 6),
        BitField("sample", 0, 1),
        BitField("drop", 0, 1),
        BitEnumField("version", 0, 4, _VERSIONS),
        BitField("vc_present", 0, 1),
        BitField("one", 1, 1),
        XIntField("spi", 1),
        XLongField("iv", 0),
        ConditionalField(XLongField("vc", 0), lambda p: p.vc_present and (p.header_len is None or p.header_len >= 2)),
        XStrLenField("extension", b"", length_from=lambda p: max(0, 8 * ((p.header_len or 0) - 1 - p.vc_present))),
    ]

    @classmethod
    def least(cls, octets: bytes) -> int:
        """With the VC, if there is one."""
        return 24 if len(octets) > 3 and octets[3] & 2 and octets[1] >= 2 else 16

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Sets Hdr Ext Len."""
        if self.header_len is None:
            pkt = pkt[:1] + bytes([len(pkt) // 8 - 1]) + pkt[2:]
        return pkt + pay


class EespTss(_Sealed):
    """The Transport Security Sublayer of Ultra Ethernet."""

    name = "UET TSS"
    fields_desc = [
        BitField("type", 1, 5),
        BitField("ssi_present", 1, 1),
        BitField("zero", 0, 1),
        BitField("an", 0, 1),
        BitField("sdi", 0, 24),
        ConditionalField(XIntField("ssi", 0), lambda p: p.ssi_present),
        BitField("epoch", 0, 16),
        BitField("counter", 0, 48),
    ]

    @classmethod
    def least(cls, octets: bytes) -> int:
        """With the SSI, if there is one."""
        return 16 if octets[0] & 4 else 12


_PORTS = ((UDP_PORT, EespStateless), (PSP_UDP_PORT, EespPsp), (TSS_UDP_PORT, EespTss))


def bind(udp_port: int, layer: type[Packet]) -> None:
    """Makes scapy dissect datagrams to a port as this layer."""
    split_layers(UDP, layer)
    bind_layers(UDP, layer, dport=udp_port)


def _dispatch_hook(cls: Any, _pkt: bytes | None = None, *_args: Any, **_options: Any) -> Any:
    """Data that ends before its header does is not this layer."""
    return cls if not _pkt or len(_pkt) >= cls.least(_pkt) else Raw


for _port, _layer in _PORTS:
    _layer.dispatch_hook = classmethod(_dispatch_hook)  # scapy looks for it in each class by itself
    bind(_port, _layer)


def seal_layer(sender: Any, packet: Packet | bytes, **options: Any) -> Packet:
    """A packet sealed by sender (Sender.seal's options), as the layer of its profile."""
    from ._types import Profile  # noqa: PLC0415

    layers = {Profile.STATELESS: EespStateless, Profile.PSP: EespPsp, Profile.TSS: EespTss}
    return layers[sender.profile](bytes(sender.seal_one(bytes(packet), **options)))


def open_layer(receiver: Any, packet: Packet | bytes, **options: Any) -> Packet:
    """What receiver opens of a layer (Receiver.open's options), as an IP packet if it is one, else Raw."""
    from scapy.layers.inet import IP  # noqa: PLC0415
    from scapy.layers.inet6 import IPv6  # noqa: PLC0415

    octets = bytes(receiver.open_one(bytes(packet), **options).payload)
    first = octets[0] >> 4 if octets else 0
    return IP(octets) if first == 4 else IPv6(octets) if first == 6 else Raw(octets)
