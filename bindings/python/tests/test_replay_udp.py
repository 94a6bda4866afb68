# SPDX-License-Identifier: BSD-3-Clause
"""Replay protection, UDP encapsulation, proxies between profiles, and what is refused of the profiles."""

import copy
import ctypes
import itertools
import json
import marshal
import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import eesp
from conftest import ROOT, tss_epochs
from eesp import errors
from eesp.packets import address_of
from eesp.pcap import Reader

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
LEAD = eesp.tss_lead("192.0.2.1", "192.0.2.2", b"port")
_ids = itertools.count(0x5000)

#: A sender's ID in each profile that has its own, and what groups of it are made with.
GROUPS: dict[eesp.Profile, dict[str, Any]] = {
    eesp.Profile.STATELESS: {},
    eesp.Profile.PSP: {},
    eesp.Profile.TSS: {"mode": eesp.TssMode.CLUSTER, "domain": 0x123456},
    eesp.Profile.EESP: {"mode": eesp.Sskdf.HKDF_SHA2_256, "domain": 0x1001},
}


def group_of(profile: eesp.Profile, **options: Any) -> eesp.TrustGroup:
    made = eesp.TrustGroup(profile=profile, **{**GROUPS[profile], **options})
    if profile is eesp.Profile.STATELESS:
        made.generate_root_key(eesp.Level.ZONE, b"zone of the tests")
    else:
        made.set_key(0, KEY)
    return made


def sender_of(group: eesp.TrustGroup, **options: Any) -> eesp.Sender:
    if group.profile is eesp.Profile.TSS:
        options = {"v": eesp.TssV.SSI, **options}
    epoch = next(tss_epochs) if group.profile is eesp.Profile.TSS else 1
    return eesp.Sender(group, next(_ids), counter=eesp.Explicit(1, epoch), **options)


def leads_of(profile: eesp.Profile) -> bytes | None:
    return LEAD if profile is eesp.Profile.TSS else None


# ---- Replay ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", eesp.Profile)
def test_replay(profile: eesp.Profile) -> None:
    lead = leads_of(profile)
    with group_of(profile) as group, sender_of(group) as sender:
        receiver = eesp.Receiver(group, replay_window=64)
        sealed = sender.seal([bytes([i]) for i in range(200)], leads=lead)
        packets = [bytes(packet) for packet in sealed]
        damaged = packets[199][:-1] + bytes([packets[199][-1] ^ 1])
        assert receiver.open([damaged], leads=lead).failures() == {0: eesp.Status.AUTH}
        assert receiver.open([packets[10], packets[12], packets[11]], leads=lead).ok
        again = receiver.open([packets[11], packets[13]], leads=lead)
        assert again.failures() == {0: eesp.Status.REPLAY} and again.good == 1
        assert receiver.open_one(packets[199], lead=lead).payload == b"\xc7"
        with pytest.raises(eesp.ReplayError):
            receiver.open_one(packets[14], lead=lead)
        assert receiver.replay_stats() == eesp.ReplayStats(1, 4096, 1, 1, 0, 1, 0)
        assert receiver.stats().packets[eesp.Status.REPLAY] == 2
        with eesp.Receiver(group) as careless:
            assert careless.open([packets[0], packets[0]], leads=lead).ok
            assert careless.replay_stats() == eesp.ReplayStats(0, 0, 0, 0, 0, 0, 0)


def test_replay_windows_run_out() -> None:
    with group_of(eesp.Profile.PSP) as group, sender_of(group) as one, sender_of(group) as other:
        with eesp.Receiver(group, replay_window=64, replay_contexts=1) as receiver:
            assert receiver.open_one(one.seal_one(b"x")).payload == b"x"
            with pytest.raises(eesp.NoWindowError) as caught:
                receiver.open_one(other.seal_one(b"x"))
            assert caught.value.status is eesp.Status.WINDOWS
            stats = receiver.replay_stats()
            assert (stats.windows, stats.most, stats.no_room) == (1, 1, 1)
            group.set_key(0, OTHER)
            # The burst that finds the key gone frees its windows. Later bursts may use them.
            statuses = [receiver.open([other.seal_one(b"x")]).status[0] for _ in range(10)]
            assert statuses[-1] == eesp.Status.OK and receiver.replay_stats().given_up == 1


def test_engines_have_windows_of_their_own(group: eesp.TrustGroup, fresh_id: int) -> None:
    senders = [eesp.Sender(group, fresh_id, engine=i, engine_bits=1) for i in range(2)]
    with eesp.Receiver(group, replay_window=64, engine_bits=1) as receiver:
        for sender in senders * 2:
            assert receiver.open([sender.seal_one(b"x")]).ok
        assert receiver.replay_stats().windows == 2
    wrong: list[dict[str, Any]] = [{"replay_window": 63}, {"replay_window": 65537}, {"replay_window": 1 << 32}]
    for options in [*wrong, {"replay_contexts": 1}, {"engine_bits": 17}]:
        with pytest.raises(ValueError):
            eesp.Receiver(group, **options)


# ---- UDP -------------------------------------------------------------------------------------------------------------


def capture() -> list[bytes]:
    with (ROOT / "testdata" / "captures" / "mixed.pcap").open("rb") as file:
        return [frame.packet for frame in Reader(file)][:300]


@pytest.mark.parametrize("ends", [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
@pytest.mark.parametrize("profile", [eesp.Profile.STATELESS, eesp.Profile.PSP, eesp.Profile.EESP])
def test_a_tunnel(profile: eesp.Profile, ends: tuple[str, str]) -> None:
    udp = eesp.Udp(src=ends[0], dst=ends[1], dport=4500, ttl=7, tos=8)
    packets = capture()
    v = {"v": eesp.V.ID_SRC_DST} if profile is eesp.Profile.STATELESS else {}
    with group_of(profile) as group, sender_of(group, **v) as sender, eesp.Receiver(group) as receiver:
        sealed = sender.seal_udp(packets, udp)
        sealed.raise_for_status()
        first = bytes(sealed[0])
        if ":" not in ends[0]:
            assert first[:2] == b"\x45\x08" and first[8] == 7
        port_at = 22 if ":" not in ends[0] else 42
        assert int.from_bytes(first[port_at : port_at + 2], "big") == 4500
        opened = receiver.open_udp(sealed, udp)
        assert [bytes(p) for p in opened] == packets
        assert set(opened.next_headers) <= ({0} if profile is eesp.Profile.STATELESS else {4, 41})
        out = bytearray(100 * len(packets) + sum(map(len, packets)))
        assert receiver.open_udp(sender.seal_udp(packets, udp, out), udp, bytearray(len(out))).ok
        elsewhere = eesp.Udp(dport=4501)
        assert set(receiver.open_udp(sealed, elsewhere).failures().values()) == {eesp.Status.ENCAP}
        with pytest.raises(eesp.EncapsulationError):
            receiver.open_udp(packets[:1], udp).raise_for_status()


@pytest.mark.parametrize("profile", [eesp.Profile.PSP, eesp.Profile.EESP])
def test_transport(profile: eesp.Profile) -> None:
    udp = eesp.Udp(eesp.UdpMode.TRANSPORT, sport=5555)
    data = b"\x04\x00\x00\x50\x00\x0c\x00\x00data"
    ip = b"\x45\0" + (20 + len(data)).to_bytes(2, "big") + bytes([0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
    with group_of(profile) as group, sender_of(group) as sender, eesp.Receiver(group) as receiver:
        sealed = sender.seal_udp([ip + data], udp)
        assert bytes(sealed[0][12:20]) == ip[12:20] and bytes(sealed[0][20:22]) == b"\x15\xb3"
        opened = receiver.open_udp(sealed, udp)
        opened.raise_for_status()
        assert bytes(opened[0][20:]) == data and opened.next_headers == b"\x11"
        fragment = ip[:6] + b"\x20\0" + ip[8:] + data
        assert sender.seal_udp([fragment], udp).failures() == {0: eesp.Status.UNSUPPORTED}


@pytest.mark.parametrize("mode", eesp.UdpMode)
@pytest.mark.parametrize("ends", [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
def test_udp_in_place(mode: eesp.UdpMode, ends: tuple[str, str]) -> None:
    """The same as elsewhere, but where the packets are."""
    udp = eesp.Udp(mode, src=ends[0], dst=ends[1], sport=5555)
    packets = [p for p in capture() if mode is eesp.UdpMode.TUNNEL or p[0] == 0x45 and p[6:8] in (b"@\0", b"\0\0")][:40]
    slot = 2048
    buffer = bytearray(slot * len(packets))
    for i, packet in enumerate(packets):
        buffer[i * slot + 256 : i * slot + 256 + len(packet)] = packet
    places = eesp.Packets(buffer, range(256, len(buffer), slot), map(len, packets))
    with group_of(eesp.Profile.PSP) as group, sender_of(group) as sender, eesp.Receiver(group) as receiver:
        sealed = sender.seal_udp_in_place(places, udp)
        sealed.raise_for_status()
        front = 8 + (0 if mode is eesp.UdpMode.TRANSPORT else 40 if ":" in ends[0] else 20)
        assert [at % slot for at in sealed.offsets] == [256 - sender.header_len - front] * len(packets)
        assert [bytes(p)[20:] for p in receiver.open_udp(sealed, udp)] == [p[20:] for p in packets]
        opened = receiver.open_udp_in_place(sealed, udp)
        assert opened.ok and [bytes(p)[20:] for p in opened] == [p[20:] for p in packets]
        near = eesp.Packets(buffer, [sender.header_len + front - 1], [40])
        with pytest.raises(ValueError, match="headroom"):
            sender.seal_udp_in_place(near, udp)
        with pytest.raises(ValueError, match="read-only"):
            receiver.open_udp_in_place(eesp.Packets(bytes(buffer), [0], [60]), udp)


def test_what_udp_refuses() -> None:
    with group_of(eesp.Profile.TSS) as group, sender_of(group) as sender:
        udp = eesp.Udp(src="192.0.2.1", dst="192.0.2.2")
        assert sender.seal_udp(capture()[:1], udp).failures() == {0: eesp.Status.UNSUPPORTED}
    with group_of(eesp.Profile.PSP) as group, sender_of(group) as sender:
        assert sender.seal_udp([b"no IP"], udp).failures() == {0: eesp.Status.ARGUMENT}
        mixed = eesp.Udp(src="192.0.2.1", dst="2001:db8::1")
        assert sender.seal_udp(capture()[:1], mixed).failures() == {0: eesp.Status.ARGUMENT}
        for wrong in ({"dport": 1 << 16}, {"sport": -1}, {"ttl": 256}, {"mode": 2}):
            with pytest.raises(ValueError):
                sender.seal_udp([], eesp.Udp(**wrong))  # type: ignore[arg-type]


def test_traffic_classes() -> None:
    """ECN and DSCP go outward and come back, if asked to."""
    ends: dict[str, Any] = {"src": "2001:db8::1", "dst": "2001:db8::2", "tos": 0x28}
    packet = b"\x6b\xa0\0\0\0\x04\x11\x40" + bytes(32) + b"data"  # DSCP 46, ECT(0)
    with group_of(eesp.Profile.PSP) as group, sender_of(group) as sender, eesp.Receiver(group) as receiver:
        cases: list[tuple[dict[str, Any], int, int]] = [
            ({}, 0x28, 0xBA),
            ({"ecn": True}, 0x2A, 0xBB),
            ({"dscp": True}, 0xB8, 0xBA),
            ({"ecn": True, "dscp": True, "dscp_back": True}, 0xBA, 0x03),
        ]
        for options, outer, inner in cases:
            udp = eesp.Udp(**ends, **options)
            sealed = bytearray(sender.seal_udp([packet], udp)[0])
            assert int.from_bytes(sealed[:2], "big") >> 4 & 0xFF == outer, options
            sealed[:2] = b"\x60\x30"  # no DSCP, and congestion was met
            opened = bytes(receiver.open_udp([sealed], udp)[0])
            assert int.from_bytes(opened[:2], "big") >> 4 & 0xFF == inner and opened[2:] == packet[2:], options


def test_plain_sockets_take_the_checksum() -> None:
    """Linux's own, over IPv6: a datagram without checksum is dropped, one with it is not."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as plain:
        try:
            raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
            plain.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"no raw IPv6 socket: {error}")
        with raw, group_of(eesp.Profile.PSP) as group, sender_of(group) as sender:
            plain.settimeout(10)
            sent = []
            for checksum6 in (False, True):
                udp = eesp.Udp(src="::1", dst="::1", dport=plain.getsockname()[1], checksum6=checksum6)
                sent.append(bytes(sender.seal_udp(capture()[:1], udp)[0]))
                assert any(sent[-1][46:48]) is checksum6
                raw.sendto(sent[-1], ("::1", 0))
            assert plain.recv(4096) == sent[1][48:]  # and not the first one


# ---- Objects of the profiles ----------------------------------------------------------------------------------------


def test_psp_hands_out_keys() -> None:
    with eesp.TrustGroup(profile=eesp.Profile.PSP, aead=eesp.Aead.AES_256_GCM) as group:
        assert group.rotate_key() == 0
        receiver = eesp.Receiver(group, replay_window=64)
        spis = [group.alloc_spi(first=7), group.alloc_spi()]
        assert spis == [7, 8]
        for spi in spis:
            with group.export_data_key(eesp.Context(spi)) as key:
                assert (key.profile, key.id, key.v) == (eesp.Profile.PSP, spi, eesp.PspVersion.AES_256_GCM)
                assert len(key.key) == 32 and not len(key.salt) and key.options == b""
                client = eesp.Sender(key, counter=eesp.Explicit(1))
            opened = receiver.open_one(client.seal_one(b"0123456789", coffset=1, next_header=6))
            assert opened == eesp.Opened(b"0123456789", spi, 0, 1, 1, 0, 6)
        assert group.rotate_key(OTHER) == 1 and group.alloc_spi() == 1 << 31 | 1
        group.use_key(0)
        assert group.alloc_spi() == 9
        group.remove_key(1)
        with pytest.raises(eesp.NotFoundError):
            group.use_key(1)
        with pytest.raises(eesp.NotFoundError):
            group.remove_key(1)
        with pytest.raises(eesp.RootKeyError):
            group.set_key(1, b"short")


def test_data_keys_of_tss() -> None:
    with group_of(eesp.Profile.TSS, mode=eesp.TssMode.SERVER) as group, eesp.Receiver(group) as server:
        context = eesp.Context(42, 7, eesp.TssV.SSI)
        with group.export_data_key(context) as key, key.to_octets() as octets:
            assert "42" not in repr(octets) and len(octets) == 192
            parts = eesp.DataKey(
                profile=key.profile,
                id=key.id,
                epoch=key.epoch,
                v=key.v,
                key=key.key,
                salt=key.salt,
                params=key.params,
                domain=key.domain,
            )
            assert parts.to_octets() == octets == eesp.DataKey.from_octets(octets).to_octets()
            text = repr(parts)
        assert text == "<DataKey TSS 0x123456 id=0x2a epoch=7 v=SSI, 32 octets>"
        with eesp.Sender(parts, counter=eesp.Explicit(1)) as client, eesp.Receiver(parts) as at_client:
            packet = client.seal_one(b"to the server", lead=LEAD)
            assert server.open_one(packet, lead=LEAD).counter == 1
            with pytest.raises(eesp.ReflectedError):
                at_client.open_one(packet, lead=LEAD)
            with eesp.Sender(group, 42, v=eesp.TssV.SSI, counter=eesp.Explicit(1, epoch=7)) as back:
                answer = at_client.open_one(back.seal_one(b"to the client", lead=LEAD), lead=LEAD)
                assert answer.payload == b"to the client" and answer.counter == 1 << 47 | 1
    for wrong in (bytes(191), bytes(192), b"\xff" * 192):
        with pytest.raises(ValueError):
            eesp.DataKey.from_octets(wrong)


def test_old_epochs_of_tss() -> None:
    with group_of(eesp.Profile.TSS) as group, eesp.Receiver(group) as receiver:
        id = next(_ids)
        packets = []
        epochs = [next(tss_epochs) for _ in range(18)]
        group.set_epoch(epochs[17])
        for epoch in (epochs[0], epochs[1], epochs[17]):
            with eesp.Sender(group, id, v=eesp.TssV.SSI, counter=eesp.Explicit(1, epoch)) as sender:
                packets.append(sender.seal_one(b"x", lead=LEAD))
        assert [receiver.open_one(p, lead=LEAD).epoch for p in packets[1:]] == [epochs[1], epochs[17]]
        with pytest.raises(eesp.EpochError):
            receiver.open_one(packets[0], lead=LEAD)
        stats = group.domain_stats()
        assert (stats.sealed, stats.opened, stats.late_epoch, stats.epoch, stats.latched) == (3, 2, 1, epochs[17], False)


def test_latch_of_tss() -> None:
    with group_of(eesp.Profile.TSS, auth_failure_limit=2) as group, sender_of(group) as sender:
        with eesp.Receiver(group) as receiver:
            packet = sender.seal_one(b"x", lead=LEAD)
            forged = packet[:-1] + bytes([packet[-1] ^ 1])
            for _ in range(2):
                with pytest.raises(eesp.AuthenticationError):
                    receiver.open_one(forged, lead=LEAD)
            with pytest.raises(eesp.LatchedError):
                receiver.open_one(packet, lead=LEAD)
            assert group.domain_stats().latched
            group.reset_latch()
            assert receiver.open_one(packet, lead=LEAD).payload == b"x"


def test_leads_that_are_not_there() -> None:
    with group_of(eesp.Profile.TSS) as group, sender_of(group) as sender, eesp.Receiver(group) as receiver:
        sealed = sender.seal([b"one", b"two"], leads=[LEAD, LEAD])
        assert receiver.open(sealed).ok  # they are in front of packets
        whole = eesp.Packets(bytes(sealed[0]), [0], [sealed.lengths[0]])
        assert receiver.open(whole).failures() == {0: eesp.Status.ROOM}
        assert receiver.open(sealed, ipv6=True).good == 0
        uses: list[tuple[Callable[[], object], str]] = [
            (lambda: sender.seal([b"x"]), "leads are needed"),
            (lambda: sender.seal_into([b"x"], bytearray(100)), "leads are needed"),
            (lambda: sender.seal_one(b"x"), "lead is needed"),
            (lambda: sender.seal_one(b"x", lead=b"short"), "12 octets"),
            (lambda: sender.seal([b"x"], leads=[LEAD, LEAD]), "2 leads for 1"),
            (lambda: sender.seal_into([b"x"], bytearray(100), leads=LEAD, ipv6=True), "ipv6 is for packets"),
            (lambda: sender.seal_into([b"x"], eesp.Packets(bytearray(9), [0], [9])), "too small for its lead"),
            (lambda: sender.seal_in_place(eesp.Packets(bytearray(60), [20], [9]), leads=LEAD), "headroom of 28"),
            (lambda: sender.seal_in_place(eesp.Packets(bytearray(90), [40], [9]), headroom=20), "have 28"),
            (lambda: receiver.open([bytes(60)]), "leads are needed"),
            (lambda: receiver.open_one(bytes(60)), "lead is needed"),
            (lambda: receiver.open(sealed, ipv6=[True]), "1 of them for 2"),
            (lambda: receiver.open_in_place(eesp.Packets(bytearray(60), [5], [50])), "headroom of 12"),
            (lambda: eesp.tss_lead("192.0.2.1", "::1"), "must have the same IP version"),
            (lambda: eesp.tss_lead("::1", "::1", b"long entropy"), "4 octets"),
        ]
        for use, message in uses:
            with pytest.raises(ValueError, match=message):
                use()
    with group_of(eesp.Profile.PSP) as group, sender_of(group) as sender, eesp.Receiver(group) as receiver:
        for use in (
            lambda: sender.seal([b"x"], leads=LEAD),
            lambda: sender.seal_one(b"x", lead=LEAD),
            lambda: receiver.open([b"x"], ipv6=True),
            lambda: receiver.open_one(b"x", lead=LEAD),
            lambda: receiver.open_in_place(eesp.Packets(bytearray(9), [0], [9]), ipv6=True),
        ):
            with pytest.raises(ValueError, match="has no leads"):
                use()


def test_a_packet_that_could_not_be_sealed_stops_no_other() -> None:
    with group_of(eesp.Profile.TSS) as group, sender_of(group) as sender, eesp.Receiver(group) as receiver:
        sealed = sender.seal([b"one", bytes(40), b"three"], leads=LEAD, coffset=[0, 1, 0])
        assert sealed.failures() == {1: eesp.Status.OFFSET}
        for opened in (receiver.open(sealed), receiver.open_in_place(sealed)):
            assert [bytes(p) for p in opened] == [b"one", b"", b"three"] and opened.good == 2


def test_next_headers_do_not_stay(group: eesp.TrustGroup, sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    """Descriptors are used again by calls of other profiles."""
    with group_of(eesp.Profile.PSP) as devices, sender_of(devices) as other, eesp.Receiver(devices) as opener:
        sealed = other.seal([b"x"] * 5000, next_header=[i % 256 for i in range(5000)])
        assert sealed.next_headers == opener.open(sealed).next_headers == bytes(i % 256 for i in range(5000))
        plain = other.seal([b"x"] * 5000)
        assert opener.open(plain).next_headers == bytes(5000) == plain.next_headers
    assert receiver.open(sender.seal([b"x"] * 5000)).ok


def test_profiles_refuse_what_is_not_theirs() -> None:
    psp, tss, eesp_ = eesp.Profile.PSP, eesp.Profile.TSS, eesp.Profile.EESP
    wrong_groups: list[dict[str, Any]] = [
        {"domain": 1},
        {"sequence": False},
        {"mode": eesp.TssMode.SERVER},
        {"profile": psp, "combiner": eesp.Combiner.XOR},
        {"profile": psp, "mode": eesp.Sskdf.AES256_CMAC},
        {"profile": psp, "versions": [4]},
        {"profile": tss, "mode": eesp.Sskdf.AES256_CMAC},
        {"profile": tss, "aead": eesp.Aead.AES_128_GCM},
        {"profile": tss, "domain": 1 << 24},
        {"profile": tss, "rekey_mask": 1 << 64},
        {"profile": eesp_},
        {"profile": eesp_, "mode": eesp.TssMode.SERVER},
        {"profile": eesp_, "mode": eesp.Sskdf.AES256_CMAC, "sequence": False},
        {"profile": eesp_, "mode": eesp.Sskdf.AES256_CMAC, "optimized": True, "max_coffset": 1},
        {"profile": eesp_, "mode": eesp.Sskdf.AES256_CMAC, "sub_sas": 65537},
    ]
    for wrong in wrong_groups:
        with pytest.raises(ValueError):
            eesp.TrustGroup(**wrong)
    with group_of(psp) as group:
        with pytest.raises(eesp.UnsupportedError):
            group.generate_root_key(eesp.Level.ZONE, b"zone of the tests")
        with pytest.raises(ValueError, match="takes one of PspVersion"):
            eesp.Sender(group, 1, v=eesp.V.ID)
        with pytest.raises(ValueError, match="takes one of PspVersion"):
            group.derive_keys([eesp.Context(1, v=eesp.TssV.ADDR)])
        with pytest.raises(ValueError, match="VC"):
            eesp.Sender(group, 1, extra=b"not 8")
    with group_of(tss) as group, pytest.raises(ValueError, match="v is needed"):
        eesp.Sender(group, 1)
    with group_of(eesp_, sub_sas=4) as group:
        with pytest.raises(ValueError, match="takes no v"):
            eesp.Sender(group, 1, v=eesp.V.ID)
        with pytest.raises(ValueError, match="Session ID 4"):
            eesp.Sender(group, 4)
        with eesp.Sender(group, 3) as sender:
            assert sender.v is None and repr(sender) == "<Sender EESP id=0x3>"
    with group_of(eesp.Profile.STATELESS) as group, pytest.raises(eesp.UnsupportedError):
        group.set_key(0, KEY)
    for parts in ({"salt": b"1234"}, {"params": b"1"}, {"profile": psp, "options": b"1"}):
        with pytest.raises(ValueError):
            eesp.DataKey(id=1, key=KEY, **parts)  # type: ignore[arg-type]


def test_statuses_of_eesp() -> None:
    with group_of(eesp.Profile.EESP, sub_sas=2) as few, group_of(eesp.Profile.EESP) as many:
        with eesp.Receiver(few) as receiver, eesp.Sender(many, 7, counter=eesp.Explicit(1)) as sender:
            with pytest.raises(eesp.HeaderError) as caught:
                receiver.open_one(sender.seal_one(b"x"))
            assert caught.value.status is eesp.Status.SESSION
    # A root key that was sent with under one SPI seals nothing under another.
    with group_of(eesp.Profile.EESP, domain=0x2002) as group, sender_of(group) as sender:
        with pytest.raises(eesp.RootKeyError):
            sender.seal_one(b"x")
    assert errors.CLASSES[eesp.Status.PAYLOAD] is eesp.PayloadError
    with group_of(eesp.Profile.EESP, optimized=True) as group, sender_of(group) as sender:
        assert sender.seal([b"no IP"]).failures() == {0: eesp.Status.ARGUMENT}


@pytest.fixture
def outside() -> Iterator[eesp.TrustGroup]:
    with eesp.TrustGroup() as made:
        made.generate_root_key(eesp.Level.ZONE, b"outer zone no. 3")
        yield made


@pytest.mark.parametrize("one", eesp.Profile)
@pytest.mark.parametrize("other", eesp.Profile)
def test_proxies_between_profiles(one: eesp.Profile, other: eesp.Profile) -> None:
    payloads = [bytes([i]) * (50 * i) for i in range(5)]
    for ends in (("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")):
        ipv6 = ":" in ends[0]
        with group_of(one) as first, group_of(other) as second:
            receiver, last = eesp.Receiver(first), eesp.Receiver(second)
            with sender_of(first) as sender, eesp.Proxy(receiver, sender_of(second)) as proxy:
                sealed = sender.seal(payloads, leads=leads_of(one))
                passed = proxy.pass_on(sealed, out_addresses=ends)
                passed.raise_for_status()
                opened = last.open(passed, ipv6=ipv6 and other is eesp.Profile.TSS)
                assert [bytes(p) for p in opened] == payloads
                if other is eesp.Profile.TSS:
                    lead, at = eesp.tss_lead(*ends), passed.offsets[1]
                    assert bytes(passed.buffer[at - len(lead) : at]) == lead


# ---- Others --------------------------------------------------------------------------------------------------------


def test_places_that_overlap(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    out = bytearray(1000)
    with pytest.raises(ValueError, match="overlaps another"):
        sender.seal_into([b"x", b"y"], eesp.Packets(out, [0, 99], [100, 100]))
    with pytest.raises(ValueError, match="overlaps another"):
        receiver.open_into([b"x", b"y"], eesp.Packets(out, [500, 0], [100, 501]))
    assert sender.seal_into([b"x", b"y"], eesp.Packets(out, [100, 0], [100, 100])).ok
    assert sender.seal_into([b"x", b"y"], eesp.Packets(out, [100, 0], [200, 100])).ok


OCTETS = b"0f1e2d, which nobody sees"


def plain(value: object) -> bool:
    """Whether the octets are readable in the value itself."""
    if isinstance(value, eesp.Secret):
        value = repr(value)
    text = value if isinstance(value, (bytes, bytearray)) else repr(value).encode()
    return OCTETS[:6] in bytes(text) or OCTETS[:6].hex().encode() in bytes(text)


@pytest.mark.parametrize(
    "use",
    [
        *[lambda s, n=n: getattr(s, n)() for n in ("strip", "lstrip", "upper", "title", "split", "decode", "swapcase")],
        lambda s: s + b"",
        lambda s: b"" + s,
        lambda s: bytearray() + s,
        lambda s: s + s,
        lambda s: s * 1,
        lambda s: 1 * s,
        lambda s: s[:],
        lambda s: s[::-1][::-1],
        lambda s: s.translate(None),
        lambda s: s.replace(b"0", b""),
        lambda s: s.partition(b"zz"),
        lambda s: s.ljust(40),
        lambda s: b"".join([s]),
        lambda s: b"".join(s),
        lambda s: list(s),
        lambda s: [*s],
        lambda s: bytes(reversed(s))[::-1],
        lambda s: b"%b" % s,
        lambda s: bytes(s),
        lambda s: "%s %r" % (s, s),
        lambda s: f"{s}",
        lambda s: ascii(s),
        lambda s: str(s),
        lambda s: {"k": s},
        lambda s: ValueError(s),
        lambda s: marshal.dumps(s),
        lambda s: pickle.dumps(s),
        lambda s: json.dumps(s),
        lambda s: copy.copy(s),
        lambda s: copy.deepcopy(s),
        lambda s: s.__reduce__(),
        lambda s: s.__getstate__(),
        lambda s: vars(s),
        lambda s: memoryview(s),
        lambda s: int.from_bytes(s, "big").to_bytes(len(s), "big"),
        lambda s: b"s" in s,
        lambda s: s.copy(),
    ],
)
def test_secrets_stay_secret(use: Callable[[Any], object]) -> None:
    """Every operation on a Secret gives a Secret or an error, except view() and hex()."""
    secret = eesp.Secret(OCTETS)
    try:
        result = use(secret)
    except (TypeError, AttributeError, ValueError) as error:
        assert not plain(str(error))
    else:
        assert not plain(result)
    assert secret.view() == OCTETS and secret.hex() == OCTETS.hex()


def test_parts_of_secrets() -> None:
    secret = eesp.Secret(b"secret octets")
    for part in (secret[:6], secret[::2], secret.copy(), secret[:], secret + b"", b"" + secret, secret + secret):
        assert type(part) is eesp.Secret
    assert secret[:6] == b"secret" and secret[0] == ord("s") and secret[::-1] == b"stetco terces"
    assert b"a " + secret + b"!" == b"a secret octets!" and b"secret octets" == secret != b"secret" and secret != "secret octets"
    assert len(eesp.Secret()) == 0 == len(eesp.Secret(b"") + b"") and eesp.Secret(3) == bytes(3)
    with eesp.Secret(secret) as again:
        assert again == secret
    assert again != bytes(13) and secret == b"secret octets"
    assert bytes(secret[:6].view()) == b"secret"  # a view keeps what it is of
    at = address_of(secret[:6].view())
    assert ctypes.string_at(at, 6) != b"secret"  # and nothing keeps this one
    with pytest.raises(TypeError):
        eesp.Secret("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a sequence of buffers is needed"):
        eesp.Packets.join(secret)  # type: ignore[arg-type]


def test_by_time(fresh_id: int, tmp_path: Path) -> None:
    """A packet opens once, at the heir too. After a restart no old packet opens."""
    limits: dict[str, Any] = {"replay": "time", "max_age": 5.0, "max_early": 0.002, "max_rate": 1000}
    with eesp.TrustGroup(time=True) as group:
        group.generate_root_key(eesp.Level.ZONE, b"a zone's root key")
        with (
            eesp.Sender(group, fresh_id, options=True) as sender,
            eesp.Receiver(group, **limits, clock_trusted=True) as receiver,
        ):
            for _ in range(2000):
                sealed = bytes(sender.seal([b"payload"])[0])
                opened = receiver.open([sealed])
                if opened.ok:
                    break
                assert opened.status[0] == eesp.Status.STALE
            with pytest.raises(eesp.ReplayError):
                receiver.open_one(sealed)
            with eesp.Receiver(group, **limits, heir_of=receiver) as heir:
                assert heir.open([sealed]).status[0] == eesp.Status.REPLAY
            marked = eesp.Receiver(group, **limits, mark=tmp_path / "mark")
            assert marked.open([sealed]).status[0] == eesp.Status.STALE
            assert receiver.replay_stats().duplicates == 2
            marked.close()
        refused: list[dict[str, Any]] = [
            {"replay": "clock"},
            {"replay": "time", "replay_window": 64},
            {"max_age": 1},
            {"max_age": -1},
        ]
        for wrong in refused:
            with pytest.raises(ValueError):
                eesp.Receiver(group, **wrong)
    with pytest.raises(ValueError):
        eesp.TrustGroup(profile=eesp.Profile.TSS, mode=eesp.TssMode.CLUSTER, time=True)
