# SPDX-License-Identifier: BSD-3-Clause
"""Layers for scapy, against the reference's vectors and the package's own reading of headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scapy")

from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.packet import Packet, Raw  # noqa: E402

import eesp  # noqa: E402
from eesp.scapy import EespPsp, EespStateless, EespStatelessOption, EespTss, open_layer, seal_layer  # noqa: E402

VECTORS = Path(__file__).parents[3] / "testdata/vectors"
LAYERS = {"stateless": EespStateless, "psp": EespPsp, "tss": EespTss}


def test_every_vector_is_built_again_as_it_is() -> None:
    if not VECTORS.exists():
        pytest.skip("no test vectors here")
    for name, layer in LAYERS.items():
        seen = 0
        for case in json.loads((VECTORS / f"{name}.json").read_text())["seal"]:
            packet = bytes.fromhex(case["packet"])
            read = layer(packet)
            assert bytes(layer(bytes(read))) == packet
            for packet_again in (read.copy(),):
                packet_again.raw_packet_cache = None
                assert bytes(packet_again) == packet, case.get("name")
            assert read.icv == packet[-16:]
            seen += 1
        assert seen > 100, name


def group_of(profile: eesp.Profile, **options: Any) -> eesp.TrustGroup:
    group = eesp.TrustGroup(profile=profile, **options)
    if profile == eesp.Profile.STATELESS:
        group.generate_root_key(eesp.Level.ZONE, b"zone of scapy 01")
    else:
        group.set_key(0, bytes(range(32)))
    return group


INNER = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=7, dport=8) / Raw(b"what is inside")


def test_stateless() -> None:
    with group_of(eesp.Profile.STATELESS) as group, eesp.Sender(group, id=0x1234567, options=True) as sender:
        with eesp.Receiver(group) as receiver:
            layer = seal_layer(sender, INNER)
            header = eesp.Header.parse(bytes(layer))
            assert (layer.version, layer.v, layer.device_id) == (0, 0, 0x1234567)
            assert (layer.epoch, layer.counter) == (header.epoch, header.counter)
            assert layer.options[0].root_key_id == b"zone of scapy 01" and layer.options[0].index == header.options[0].index
            assert len(layer.ciphertext) == len(bytes(INNER)) and layer.icv == bytes(layer)[-16:]
            whole = IP(bytes(IP(src="192.0.2.1", dst="192.0.2.2") / UDP() / layer))
            assert whole[UDP].dport == eesp.UDP_PORT and isinstance(whole[UDP].payload, EespStateless)
            assert bytes(open_layer(receiver, whole[EespStateless])) == bytes(IP(bytes(INNER)))


def test_built_header_is_the_one_that_was_read() -> None:
    option = EespStatelessOption(type=0xE0, index=3, root_key_id=b"k" * 16)
    pads = [EespStatelessOption(type=1, padding=bytes(2))]
    octets = bytes(EespStateless(device_id=7, options=[option, *pads], epoch=1, counter=2) / Raw(bytes(40)))
    header = eesp.Header.parse(octets)
    assert header.id == 7 and header.epoch == 1 and header.counter == 2
    assert header.options == (eesp.MasterKeyOption(eesp.Level.ZONE, 3, b"k" * 16),)
    psp = eesp.PspHeader.parse(bytes(EespPsp(spi=9, iv=77, vc_present=1, vc=5, crypt_offset=3) / Raw(bytes(40))))
    assert (psp.spi, psp.iv, psp.vc, psp.offset, psp.next_header) == (9, 77, (5).to_bytes(8, "big"), 3, 4)
    tss = eesp.TssHeader.parse(bytes(EespTss(sdi=0x5D1, ssi=4, an=1, epoch=6, counter=8) / Raw(bytes(40))))
    assert (tss.sdi, tss.ssi, tss.an, tss.epoch, tss.counter, tss.len) == (0x5D1, 4, 1, 6, 8, 16)
    assert eesp.TssHeader.parse(bytes(EespTss(ssi_present=0) / Raw(bytes(40)))).ssi is None


def test_psp_in_udp() -> None:
    with group_of(eesp.Profile.PSP) as group, eesp.Sender(group, id=5) as sender, eesp.Receiver(group) as receiver:
        layer = seal_layer(sender, INNER, next_header=4)
        assert (layer.spi, layer.next_header, layer.version) == (5, 4, 0)
        whole = IP(bytes(IP(src="192.0.2.1", dst="192.0.2.2") / UDP() / layer))
        assert whole[UDP].dport == eesp.PSP_UDP_PORT
        assert open_layer(receiver, whole[EespPsp])[UDP].dport == 8


def test_damaged_headers_are_shown_and_do_not_raise() -> None:
    for layer in LAYERS.values():
        for octets in (b"", b"\xff", b"\xff" * 30, bytes(12), bytes(200)):
            read: Packet = layer(octets)
            assert isinstance(read.summary(), str)
