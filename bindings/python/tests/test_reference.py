# SPDX-License-Identifier: BSD-3-Clause
"""Against the vectors, the independent implementation in testdata/reference, and pyca/cryptography."""

import functools
from collections import defaultdict
from typing import Any

import pytest
import stateless as reference
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

import eesp
from conftest import ZONE_ID, addresses_of, examples, group_of
from eesp import errors

Vectors = dict[str, Any]


def test_seal_vectors_open(vectors: Vectors) -> None:
    for v in vectors["seal"]:
        with group_of(v["group"]) as group, eesp.Receiver(group) as receiver:
            packet = bytes.fromhex(v["packet"])
            opened = receiver.open_one(packet, addresses=addresses_of(v))
            assert (opened.id, opened.epoch, opened.counter) == (int(v["id"], 16), v["epoch"], v["counter"]), v["name"]
            assert (opened.coffset, opened.ioffset) == (v["coffset"], v["ioffset"]), v["name"]
            assert len(opened.payload) == v["payload_len"]
            if v["payload"]:
                assert opened.payload == bytes.fromhex(v["payload"]), v["name"]
            header = eesp.Header.parse(packet)
            assert header.len == v["header_len"] and [o.level.name.lower() for o in header.options] == v["options"]


def test_seal_vectors_seal(vectors: Vectors) -> None:
    """The same octets. A counter once used is refused, so vectors that share an ID come in their counters' order."""
    by_id: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for v in vectors["seal"]:
        if v["payload"] or not v["payload_len"]:
            by_id[int(v["id"], 16), v["epoch"]].append(v)
    sealed = 0
    for (id, epoch), same in by_id.items():
        last = -1
        for v in sorted(same, key=lambda v: v["counter"]):
            if v["counter"] in (last, 2**48 - 1):  # a sender does not use the last counter
                continue
            last = v["counter"]
            with group_of(v.get("sender_group", v["group"])) as group:
                levels = eesp.Levels(sum(eesp.Levels[name.upper()] for name in v["options"]))
                counter = eesp.Explicit(v["counter"], epoch)
                kind = eesp.V(v["v"])
                with eesp.Sender(group, id, v=kind, options=bool(levels), levels=levels, counter=counter) as sender:
                    packet = sender.seal_one(
                        bytes.fromhex(v["payload"]),
                        coffset=v["coffset"],
                        ioffset=v["ioffset"],
                        addresses=addresses_of(v),
                    )
            assert packet.hex() == v["packet"], v["name"]
            sealed += 1
    assert sealed > 250


def test_accepted_vectors(vectors: Vectors) -> None:
    for v in vectors["accepted"]:
        ids = [int(i, 16) for i in v["own_ids"]]
        if v.get("decision") == "own_id_length":
            continue  # the C API has no length of an own ID
        with group_of(v["group"]) as group, eesp.Receiver(group, own_ids=ids) as receiver:
            opened = receiver.open_one(bytes.fromhex(v["packet"]), addresses=addresses_of(v))
            assert opened.payload.hex() == v["payload"], v["name"]


def test_refused_vectors(vectors: Vectors) -> None:
    @functools.lru_cache(None)
    def receiver_of(which: int, own: tuple[int, ...]) -> eesp.Receiver:
        with group_of(vectors["refused"][which]["group"]) as group:
            return eesp.Receiver(group, own_ids=own)

    which: dict[str, int] = {}
    refused_groups = 0
    for i, v in enumerate(vectors["refused"]):
        try:
            group_of(v["group"]).close()
        except eesp.RootKeyError:  # values that cancel are refused before there is a packet
            assert (v["group"]["combiner"], v["reason"]) == ("xor", "no_key")
            refused_groups += 1
            continue
        receiver = receiver_of(which.setdefault(str(v["group"]), i), tuple(int(o, 16) for o in v["own_ids"]))
        packet = bytes.fromhex(v["packet"])
        with pytest.raises(eesp.PacketError) as caught:
            receiver.open_one(packet, addresses=addresses_of(v))
        assert caught.value.status.name.lower() == v["reason"], v["name"]
        if caught.value.status in (eesp.Status.AUTH, eesp.Status.NO_KEY, eesp.Status.REFLECTED):
            eesp.Header.parse(packet)
        else:
            with pytest.raises(eesp.HeaderError) as read:
                eesp.Header.parse(packet)
            assert read.value.status is caught.value.status, v["name"]
    assert refused_groups < 20


def test_root_key_vectors(vectors: Vectors) -> None:
    with eesp.TrustGroup() as group:
        for v in vectors["root_keys_accepted"]:
            der = bytes.fromhex(v["der"])
            group.set_root_key_der(eesp.Level.ZONE, der)
            assert group.root_key_der(eesp.Level.ZONE) == der
        for v in vectors["root_keys_refused"]:
            with pytest.raises(eesp.RootKeyError):
                group.set_root_key_der(eesp.Level.USER, bytes.fromhex(v["der"]))


def test_derived_keys(vectors: Vectors) -> None:
    for v in vectors["seal"]:
        if v["options"]:
            continue
        src, dst = addresses_of(v)
        context = eesp.Context(int(v["id"], 16), v["epoch"], eesp.V(v["v"]), src=src, dst=dst)
        with group_of(v["group"]) as group, eesp.derive_keys(group, [context, context]) as keys:
            assert [k.hex() for k in keys] == [v["data_key"]] * 2, v["name"]


LEVELS = list(eesp.Level)
REFERENCE_LEVELS = list(reference.Level)


@st.composite
def groups(draw: st.DrawFn) -> tuple[reference.Group, eesp.TrustGroup]:
    """One group, in both implementations."""
    aead, combiner = draw(st.sampled_from(list(eesp.Aead))), draw(st.sampled_from(list(eesp.Combiner)))
    present = draw(st.sets(st.sampled_from(LEVELS), min_size=1))
    ours = eesp.TrustGroup(aead=aead, combiner=combiner)
    rings = {}
    for level in sorted(present):
        first = draw(st.integers(0, 2**32))
        id = draw(st.binary(min_size=16, max_size=32))
        values = tuple(bytes([level]) + draw(st.binary(min_size=31, max_size=31)) for _ in range(3))
        if len(set(values)) < 3:
            values = tuple(bytes([level, i]) + v[2:] for i, v in enumerate(values))
        ring = reference.RootKey(id, (first, first + 1, first + 2), values)
        rings[REFERENCE_LEVELS[level]] = ring
        ours.set_root_key(level, id, ring.indices, ring.values)
        assert ours.root_key_der(level) == reference.encode_root_key(ring)
    theirs = reference.Group(
        reference.Aead[aead.name], reference.Combiner[combiner.name], rings, tuple(sorted(rings))
    )
    return theirs, ours


_next_epoch = iter(range(1, 1 << 16))


@settings(max_examples=examples(120))
@given(groups(), st.data())
def test_round_trips(pair: tuple[reference.Group, eesp.TrustGroup], data: st.DataObject) -> None:
    """Sealed here and opened there, and the other way round."""
    theirs, ours = pair
    v = data.draw(st.sampled_from(list(eesp.V)))
    # Not the IDs of other tests: this process has used their counters.
    id = data.draw(st.integers(2**31, 2**31 + 2**30) if not v & 8 else st.integers(2**63, 2**63 + 2**62))
    options = data.draw(st.booleans())
    ip = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
    src, dst = data.draw(ip), data.draw(ip)
    payloads = data.draw(st.lists(st.binary(max_size=200), min_size=1, max_size=9))
    coffset = data.draw(st.integers(0, min(map(len, payloads)) // 4))
    ioffset = data.draw(st.integers(0, min(coffset, 15)))
    epoch, start = next(_next_epoch), data.draw(st.integers(0, 2**48 - 10))
    with ours, eesp.Receiver(ours) as receiver:
        with eesp.Sender(ours, id, v=v, options=options, counter=eesp.Explicit(start, epoch)) as sender:
            sealed = sender.seal(payloads, coffset=coffset, ioffset=ioffset, addresses=(src, dst))
        sealed.raise_for_status()
        for i, packet in enumerate(sealed):
            opened = reference.open_packet(theirs, bytes(packet), src_ip=src, dst_ip=dst)
            assert opened.payload == payloads[i]
            assert (opened.header.epoch, opened.header.counter) == (epoch, start + i)
            parsed = eesp.Header.parse(packet)
            assert (parsed.id, parsed.coffset, parsed.ioffset) == (id, coffset, ioffset)
        again = [
            reference.seal(
                theirs,
                v=v,
                id=id.to_bytes(8 if v & 8 else 4, "big"),
                epoch=epoch,
                counter=start + i,
                payload=payload,
                options=tuple(sorted(theirs.levels)) if options else (),
                src_ip=src,
                dst_ip=dst,
                coffset=coffset,
                ioffset=ioffset,
            ).packet
            for i, payload in enumerate(payloads)
        ]
        assert again == [bytes(p) for p in sealed]
        opened_here = receiver.open(again, addresses=[(src, dst)] * len(again))
        assert [bytes(p) for p in opened_here] == payloads


def test_pyca_opens_what_is_sealed(group: eesp.TrustGroup, fresh_id: int) -> None:
    counter = eesp.Explicit(77, epoch=5)
    with eesp.Sender(group, fresh_id, counter=counter) as sender:
        packet = sender.seal_one(b"clear text, then text that is secret", coffset=3, ioffset=1)
    header = eesp.Header.parse(packet)
    nonce = header.id.to_bytes(4, "big") + header.epoch.to_bytes(2, "big") + header.counter.to_bytes(6, "big")
    aad = packet[: header.len] + packet[header.len + 4 : header.len + 12]
    with group.derive_keys([eesp.Context(fresh_id, 5)]) as keys:
        plain = AESGCM(keys[0]).decrypt(nonce, packet[header.len + 12 :], aad)
    assert packet[header.len : header.len + 12] + plain == b"clear text, then text that is secret"


def test_pyca_seals_what_is_opened(group: eesp.TrustGroup, receiver: eesp.Receiver, fresh_id: int) -> None:
    header = bytes([0x01, 0, 0, 0]) + fresh_id.to_bytes(4, "big") + (9).to_bytes(2, "big") + (1234).to_bytes(6, "big")
    nonce = fresh_id.to_bytes(4, "big") + header[8:]
    with group.derive_keys([eesp.Context(fresh_id, 9)]) as keys:
        packet = header + AESGCM(keys[0]).encrypt(nonce, b"made by pyca", header)
    assert receiver.open_one(packet) == eesp.Opened(b"made by pyca", fresh_id, 9, 1234, 0, 0)
    assert group.root_key_info(eesp.Level.ZONE).id == ZONE_ID


HEADER_STATUSES = {s for s, error in errors.CLASSES.items() if error is eesp.HeaderError}


@settings(max_examples=examples(300))
@given(data=st.data())
def test_headers_are_read_as_the_library_reads_them(data: st.DataObject, receiver: eesp.Receiver) -> None:
    """Any octets: Header.parse refuses what opening refuses for its header, and for the same reason."""
    v, hl = data.draw(st.sampled_from([0, 1, 2, 8, 9, 10, 3, 7, 15])), data.draw(st.integers(0, 15))
    version, reserve = data.draw(st.sampled_from([0, 0, 0, 0x10, 0xF0])), data.draw(st.sampled_from([0, 0, 1]))
    first = bytes([version | hl, v << 4 | reserve])
    option = st.sampled_from([b"", b"\0", b"\1\2\0\0", b"\1\0", bytes([0xE0, 18, 1, 0]) + ZONE_ID[:16]])
    option |= st.builds(bytes, st.lists(st.sampled_from([0, 1, 2, 18, 19, 0xE0, 0xE1, 0xE3]), max_size=24))
    area = b"".join(data.draw(st.lists(option, max_size=4)))
    offsets = bytes([data.draw(st.sampled_from([0, 0, 0xF0])), data.draw(st.integers(0, 255))])
    packet = first + offsets + bytes(8 if v & 8 else 4) + area
    packet = packet.ljust(8 * hl, b"\0") + bytes(data.draw(st.integers(0, 60)))
    (status,) = receiver.open([packet]).status
    try:
        eesp.Header.parse(packet)
        read = None
    except eesp.HeaderError as error:
        read = error.status
    assert read == (status if status in HEADER_STATUSES else None)
