#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Packets of the four profiles, as the library seals them, and two that were damaged: capture.py FILE"""

import struct
import sys

import eesp

ENDS = {"src": "192.0.2.1", "dst": "192.0.2.2"}


def ip(source: str, destination: str, source_port: int, port: int, payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram."""
    udp = struct.pack(">HHHH", source_port, port, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0)
    return head + bytes(map(int, f"{source}.{destination}".split("."))) + udp


def inner(size: int) -> bytes:
    return ip("10.0.0.1", "10.0.0.2", 40000, 443, bytes(size))


def tunnel(sender: eesp.Sender, port: int, *sizes: int, coffset: int = 0) -> list[bytes]:
    sealed = sender.seal_udp([inner(size) for size in sizes], eesp.Udp(**ENDS, dport=port), coffset=coffset)
    sealed.raise_for_status()
    return [bytes(packet) for packet in sealed]


def main() -> None:
    group = eesp.TrustGroup(aead=eesp.Aead.AES_256_GCM)
    group.generate_root_key(eesp.Level.ZONE, b"zone blue 000001")
    group.generate_root_key(eesp.Level.USER, b"user group 00042")
    stateless = eesp.Sender(group, id=0xC0000201, options=True)
    packets = tunnel(stateless, eesp.UDP_PORT, 56, 1200, 1200, 372)

    devices = eesp.TrustGroup(profile=eesp.Profile.PSP)
    devices.rotate_key()
    psp = eesp.Sender(devices, id=devices.alloc_spi(), extra=bytes.fromhex("0000000000c0ffee"))
    packets += tunnel(psp, eesp.PSP_UDP_PORT, 64, 1200, coffset=3)

    cluster = eesp.TrustGroup(profile=eesp.Profile.TSS, mode=eesp.TssMode.CLUSTER, domain=0x5D1)
    cluster.rotate_key()
    tss = eesp.Sender(cluster, id=42, v=eesp.TssV.SSI)
    lead = eesp.tss_lead(ENDS["src"], ENDS["dst"], entropy=b"\xc0\x00\x12\xb9")
    for packet in tss.seal([bytes(256), bytes(1024)], leads=lead):
        packets.append(ip(ENDS["src"], ENDS["dst"], 0xC000, eesp.TSS_UDP_PORT, bytes(packet)))

    sa = eesp.TrustGroup(profile=eesp.Profile.EESP, mode=eesp.Sskdf.HKDF_SHA2_256, domain=0x1001, sub_sas=8)
    sa.set_key(0, b"32 octets that IKE has agreed on")
    packets += tunnel(eesp.Sender(sa, 3, counter=eesp.Explicit(1)), eesp.UDP_PORT, 64, 900)

    for packet, octet, bits in ((packets[4], 3, 0x3C), (packets[1], 1, 0x01)):  # psp's Version, stateless' Reserve
        damaged = bytearray(packet)
        damaged[28 + octet] |= bits
        packets.append(bytes(damaged))
    packets += tunnel(stateless, eesp.UDP_PORT, 700)

    with open(sys.argv[1], "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 101))
        for i, packet in enumerate(packets):
            out.write(struct.pack("<IIII", 1796000000, i * 1370123, len(packet), len(packet)) + packet)


main()
