# SPDX-License-Identifier: BSD-3-Clause
"""Packets of several segments, sealed and opened where they are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eesp
from conftest import examples, new_id, tss_epochs

LEAD = eesp.tss_lead("192.0.2.1", "192.0.2.2")


@contextmanager
def ends(profile: eesp.Profile) -> Iterator[tuple[eesp.Sender, eesp.Receiver]]:
    """A sender and a receiver of a profile."""
    id = new_id()
    if profile is eesp.Profile.STATELESS:
        group = eesp.TrustGroup()
        group.generate_root_key(eesp.Level.ZONE, b"zone of chains..")
    elif profile is eesp.Profile.PSP:
        group = eesp.TrustGroup(profile=profile)
        group.rotate_key()
    elif profile is eesp.Profile.TSS:
        group = eesp.TrustGroup(profile=profile, mode=eesp.TssMode.CLUSTER, domain=id)
        group.rotate_key()
    else:
        group = eesp.TrustGroup(profile=profile, mode=eesp.Sskdf.HKDF_SHA2_256, domain=id, sub_sas=8)
        group.set_key(0, b"%032d" % id)
        id = 5
    v = eesp.TssV.SSI if profile is eesp.Profile.TSS else None
    epoch = next(tss_epochs) if profile is eesp.Profile.TSS else 0
    with group, eesp.Sender(group, id, v=v, counter=eesp.Explicit(1, epoch=epoch)) as sender:
        with eesp.Receiver(group) as receiver:
            yield sender, receiver


def layout(packets: list[list[bytes]], front: int, back: int, gap: int, down: bool = False) -> eesp.Chains:
    """Segments in one buffer, in order or from its end down, with room around each packet, and gaps between."""
    parts = [
        (part, front if i == 0 else gap, back if i + 1 == len(packet) else 0)
        for packet in packets
        for i, part in enumerate(packet)
    ]
    buffer, offsets = bytearray(sum(len(p) + f + b for p, f, b in parts)), []
    at = len(buffer) if down else 0
    for part, before, behind in parts:
        at -= len(part) + behind if down else -before
        buffer[at : at + len(part)] = part
        offsets.append(at)
        at += -before if down else len(part) + behind
    segments = eesp.Packets(buffer, offsets, [len(part) for part, _, _ in parts])
    return eesp.Chains(segments, map(len, packets))


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(n, len(data)) for n in at), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:])]


@pytest.mark.parametrize("profile", eesp.Profile)
@settings(max_examples=examples(30))
@given(
    payloads=st.lists(st.tuples(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5)), max_size=8),
    gap=st.integers(0, 5),
    down=st.booleans(),
)
def test_any_cuts(
    profile: eesp.Profile, payloads: list[tuple[bytes, list[int]]], gap: int, down: bool
) -> None:
    """Chains seal to what plain packets open from, and the other way round, wherever their segments lie."""
    texts = [text for text, _ in payloads]
    leads = LEAD if profile is eesp.Profile.TSS else None
    front = len(leads or b"")
    with ends(profile) as (sender, receiver):
        h = sender.header_len
        chains = layout([cut(*p) for p in payloads], front + h, sender.tail_len, gap, down)
        before = chains.counts
        sealed = sender.seal_chains(chains, leads=leads)
        assert sealed.ok and sealed.counts == before and list(sealed.tscs) == sorted(sealed.tscs)
        assert [bytes(p) for p in receiver.open(sealed.joined(), leads=leads)] == texts
        opened = receiver.open_chains(sealed)
        assert opened.ok and opened.joined() == texts
        assert list(opened.ids) == list(sealed.ids) and list(opened.tscs) == list(sealed.tscs)

        plain = [bytes(p) for p in sender.seal(texts, leads=leads)]
        parts = [[p[:h] + (c := cut(p[h:], at))[0], *c[1:]] for p, (_, at) in zip(plain, payloads)]
        again = layout(parts, front, 0, gap, down)
        for first in accumulate(again.counts[:-1], initial=0) if leads and payloads else ():
            place = again.segments.offsets[first]
            again.segments.buffer[place - front : place] = leads or b""
        assert receiver.open_chains(again).joined() == texts


def test_where_things_go(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    """The header goes in front of the first segment, the ICV behind the last; nothing else is touched."""
    h = sender.header_len
    chains = layout([[b"first", b"second", b"third"]], h, 16, 3)
    buffer = chains.segments.buffer
    sealed = sender.seal_chains(chains)
    assert [len(segment) for segment in sealed[0]] == [h + 5, 6, 5 + eesp.ICV_LEN]
    assert sealed.segments.offsets.tolist() == [0, h + 5 + 3, h + 5 + 3 + 6 + 3]
    assert buffer[h + 5 : h + 8] == bytes(3) == buffer[h + 14 : h + 17]
    assert eesp.Header.parse(sealed.joined()[0]).id == sender.id
    assert receiver.open_one(b"".join(sealed[0])).payload == b"firstsecondthird"
    opened = receiver.open_chains(sealed)
    assert [bytes(segment) for segment in opened[0]] == [b"first", b"second", b"third"]
    assert opened.segments.offsets.tolist() == chains.segments.offsets.tolist()


def test_segments_of_header_or_icv_alone(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    packet = sender.seal_one(b"all of the text")
    h = sender.header_len
    opened = receiver.open_chains(layout([[packet[:h], packet[h:-16], packet[-16:]]], 0, 0, 1))
    assert [bytes(segment) for segment in opened[0]] == [b"all of the text", b""]


def test_one_that_fails(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    """A packet that fails is empty, its plaintext is zeros, and the others go on."""
    chains = layout([[b"whole", b"packet"], [b"damaged", b"packet"], [b"another", b"one"]], sender.header_len, 16, 0)
    sealed = sender.seal_chains(chains, coffset=[0, 1, 0])
    sealed[1][1][0] ^= 1
    opened = receiver.open_chains(sealed)
    assert (opened.good, opened.failures()) == (2, {1: eesp.Status.AUTH})
    assert opened.joined() == [b"wholepacket", b"", b"anotherone"] and opened.counts == [2, 1, 2]
    assert chains.joined()[1] == b"dama" + bytes(9)
    with pytest.raises(eesp.AuthenticationError, match="packet 1 of 3"):
        opened.raise_for_status()
    # What is empty can be passed on, and fails again.
    assert sender.seal_chains(opened, headroom=0, tailroom=0).failures() == dict.fromkeys(range(3), eesp.Status.ROOM)
    assert receiver.open_chains(opened).failures()[1] is eesp.Status.SHORT


def test_a_header_in_two_segments(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    packet = sender.seal_one(b"text")
    chains = layout([[packet[:9], packet[9:]], [packet]], 0, 0, 0)
    assert receiver.open_chains(chains).failures() == {0: eesp.Status.SEGMENTS}


def test_many(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    """More packets than one call takes, each with its own segments."""
    count = 5000
    packets = [[i.to_bytes(4, "big"), b"x" * (i % 7)][: 1 + i % 2] for i in range(count)]
    sealed = sender.seal_chains(layout(packets, sender.header_len, 16, 0))
    assert sealed.good == count and sealed.counts == [1 + i % 2 for i in range(count)]
    assert receiver.open_chains(sealed).joined() == [b"".join(p) for p in packets]
    assert sender.seal([b"plain again"]).ok  # nothing of the chains is left in descriptors


@pytest.mark.parametrize(
    ("counts", "message"),
    [([], "0 segments, but there are 2"), ([1, 2], "3 segments"), ([2, 0], "from 1"), ([-1], "numbers"), ([70000], "from 1")],
)
def test_counts_that_are_refused(counts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        eesp.Chains(eesp.Packets(bytearray(9), [0, 4], [4, 5]), counts)


def test_rooms_that_are_refused(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    h = sender.header_len
    two: Callable[..., eesp.Chains] = lambda buffer, *offsets: eesp.Chains(eesp.Packets(buffer, offsets, [5] * 2), [2])
    for chains, message in (
        (two(bytearray(200), h - 1, 100), f"no headroom of {h}"),
        (two(bytearray(200), h, h + 4), "headroom of 0"),
        (two(bytearray(200), 100, 180), "no tailroom of 16"),
        (two(bytes(200), 100, 150), "read-only"),
    ):
        with pytest.raises(ValueError, match=message):
            sender.seal_chains(chains)
    with pytest.raises(ValueError, match="leads"):
        sender.seal_chains(two(bytearray(200), 100, 150), leads=LEAD)
    with pytest.raises(ValueError, match="read-only"):
        receiver.open_chains(two(bytes(200), 100, 150))


def test_chains_are_sequences() -> None:
    chains = layout([[b"a", b"bc"], [b"d"]], 0, 0, 0)
    assert (len(chains), chains.counts, chains.joined()) == (2, [2, 1], [b"abc", b"d"])
    assert [bytes(s) for s in chains[-1]] == [b"d"] and [len(p) for p in chains[:]] == [2, 1]
    assert repr(chains) == "<Chains: 2 packets of 3 segments>"
    with pytest.raises(IndexError):
        chains[2]
