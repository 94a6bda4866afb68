# SPDX-License-Identifier: BSD-3-Clause
"""Profiles psp, tss and eesp: against the vectors and the independent implementations in testdata/reference."""

import functools
import hashlib
import json
import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eesp
from conftest import ROOT, examples, reference_of, tss_epochs

Vector = dict[str, Any]
psp, tss, reference_eesp = reference_of("psp"), reference_of("tss"), reference_of("eesp")
LAST = 2**48 - 1
HEADER_REASONS = {"short", "version", "reserved", "header_len", "offset", "option", "sequence"}


@functools.lru_cache(None)
def vectors_of(profile: str) -> Any:
    return json.loads((ROOT / "testdata" / "vectors" / f"{profile}.json").read_text())


def payload_of(v: Vector) -> bytes:
    seed = bytes.fromhex(v["payload_seed"])
    if not seed:
        return bytes.fromhex(v["payload"])
    size = v["payload_len"]
    parts = (hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in range(size // 32 + 1))
    return b"".join(parts)[:size]


def in_order(
    vectors: Iterable[Vector], space: Callable[[Vector], Any], tsc: Callable[[Vector], int]
) -> Iterable[Vector]:
    """Sorts by counter and drops repeats: a process may use a counter once. Senders do not use the last counter."""
    spaces: dict[Any, list[Vector]] = defaultdict(list)
    for v in vectors:
        spaces[space(v)].append(v)
    for same in spaces.values():
        last = -1
        for v in sorted(same, key=tsc):
            if tsc(v) != last and tsc(v) & LAST != LAST:
                last = tsc(v)
                yield v


def alone(function: Callable[[], None]) -> None:
    """Calls it in a new process, in which no counters were used. If the process dies, that is an error."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(function).result()


def explicit(tsc: int, bits: int = 48) -> eesp.Explicit:
    return eesp.Explicit(tsc & (1 << bits) - 1, tsc >> 48)


# ---- psp -------------------------------------------------------------------------------------------------------------


def psp_group(keys: list[str], versions: Iterable[int]) -> eesp.TrustGroup:
    first = min(versions)
    made = eesp.TrustGroup(
        profile=eesp.Profile.PSP, aead=eesp.Aead(first & 1), versions=map(eesp.PspVersion, versions)
    )
    for slot, key in enumerate(keys):
        if key:
            made.set_key(slot, bytes.fromhex(key))
    return made


def test_psp_seal() -> None:
    alone(seal_psp_vectors)


def seal_psp_vectors() -> None:
    sealed = 0
    for v in in_order(vectors_of("psp")["seal"], lambda v: v["spi"], lambda v: int(v["iv"])):
        with psp_group(v["device_keys"], [v["version"]]) as group, eesp.Receiver(group) as receiver:
            counter, extension = explicit(v["iv"]), bytes.fromhex(v["extension"])
            version = eesp.PspVersion(v["version"])
            how: dict[str, Any] = {"extra": extension, "no_vc": not v["has_vc"], "offset_from_iv": v["from_iv"]}
            with eesp.Sender(group, v["spi"], v=version, counter=counter, **how) as sender:
                packet = sender.seal_one(payload_of(v), coffset=v["coffset"], next_header=v["next_header"])
            assert packet.hex() == v["packet"], v["name"]
            opened = receiver.open_one(packet)
            assert (opened.payload, opened.id, opened.tsc) == (payload_of(v), v["spi"], v["iv"])
            coffset = max(v["coffset"] - len(extension) // 4, 0) if v["from_iv"] else v["coffset"]
            assert (opened.coffset, opened.next_header) == (coffset, v["next_header"])
            assert receiver.open_one(packet, extension=True).payload == extension + payload_of(v)
            header = eesp.PspHeader.parse(packet)
            assert (header.version, header.spi, header.iv) == (version, v["spi"], v["iv"])
            assert (header.coffset, header.next_header) == (coffset, v["next_header"])
            clear = len(extension) if version >= eesp.PspVersion.AES_128_GMAC else 4 * header.offset
            assert len(header.extension) == len(extension) and header.extension[:clear] == extension[:clear]
            assert header.vc == header.extension[: 8 * v["has_vc"]]
            with group.derive_keys([eesp.Context(v["spi"], v=version)]) as keys:
                assert keys[0].hex() == v["data_key"]
        sealed += 1
    assert sealed > 300


def test_psp_accepted_and_refused() -> None:
    groups = functools.lru_cache(None)(lambda keys, versions: eesp.Receiver(psp_group(list(keys), versions)))
    for v in vectors_of("psp")["accepted"]:
        receiver, packet = groups(tuple(v["device_keys"]), tuple(v["versions"])), bytes.fromhex(v["packet"])
        opened, header = receiver.open_one(packet), eesp.PspHeader.parse(packet)
        assert opened.payload.hex() == v["payload"], v["name"]
        assert receiver.open_one(packet, extension=True).payload.hex() == v["extension"] + v["payload"], v["name"]
        assert (len(header.vc), 2 * len(header.extension)) == (8 * v["has_vc"], len(v["extension"])), v["name"]
        assert (opened.id, opened.tsc) == (header.spi, header.iv) == (v["spi"], v["iv"]), v["name"]
        assert opened.coffset == header.coffset == v["coffset"], v["name"]
    for v in vectors_of("psp")["refused"]:
        receiver, packet = groups(tuple(v["device_keys"]), tuple(v["versions"])), bytes.fromhex(v["packet"])
        refused(v, lambda: receiver.open_one(packet))
        of_group = v["reason"] == "version" and packet[3] >> 2 & 0xF < 4
        parsed(v, lambda: eesp.PspHeader.parse(packet), v["reason"] in HEADER_REASONS and not of_group)


def refused(v: Vector, call: Callable[[], object], reason: str | None = None) -> None:
    with pytest.raises(eesp.EespError) as caught:
        call()
    assert caught.value.status.name.lower() == (reason or v["reason"]), v["name"]


def parsed(v: Vector, call: Callable[[], object], malformed: bool) -> None:
    """A header is refused for what it says, and for nothing else."""
    if malformed:
        with pytest.raises(eesp.HeaderError) as caught:
            call()
        assert caught.value.status.name.lower() == v["reason"], v["name"]
    else:
        call()


def test_psp_derive() -> None:
    for v in vectors_of("psp")["derive"]:
        keys = ["", ""]
        keys[v["spi"] >> 31] = v["device_key"]
        with psp_group(keys, [v["version"]]) as group:
            version = eesp.PspVersion(v["version"])
            with group.derive_keys([eesp.Context(v["spi"], v=version)] * 2) as derived:
                assert [key.hex() for key in derived] == [v["data_key"]] * 2


# ---- tss -------------------------------------------------------------------------------------------------------------


def tss_group(v: Vector, keys: list[str] | None = None) -> eesp.TrustGroup:
    without = v.get("decision") == "rekey_without_effect"  # refused here
    made = eesp.TrustGroup(
        profile=eesp.Profile.TSS,
        mode=eesp.TssMode[v["mode"].upper()],
        domain=v.get("sdi", 0),
        rekey_mask=0 if without else v.get("rekey_mask", 0),
        rekey_shift=0 if without else v.get("rekey_shift", 0),
        crypt_offset=v.get("crypt_offset", 0),
        epoch_age=v.get("epoch_age", 0),
        direction_bit=v.get("direction_bit", True),
    )
    for slot, key in enumerate(keys or v["keys"]):
        if key:
            made.set_key(slot, bytes.fromhex(key))
    return made


def tss_v(v: Vector) -> eesp.TssV:
    return eesp.TssV(v["sp"] + 2 * v["ipv6"])


def tss_context(v: Vector, to_client: bool) -> eesp.Context:
    """The context of a packet; in server mode, the address is the client's."""
    lead, size = bytes.fromhex(v["lead"]), 16 if v["ipv6"] else 4
    address = lead[size : 2 * size] if to_client else lead[:size]
    return eesp.Context(
        v["ssi"] | v.get("rekey", 0) << 32,
        v["epoch"],
        tss_v(v),
        generation=v.get("an", 0),
        src=bytes(16) if v["sp"] and not v["ipv6"] else address,
    )


def test_tss_seal() -> None:
    # Those without SSI share their counters with all others of their mode.
    alone(seal_tss_vectors_with_ssi)
    alone(seal_tss_vectors_without)


def seal_tss_vectors_with_ssi() -> None:
    assert seal_tss_vectors(True) > 200


def seal_tss_vectors_without() -> None:
    assert seal_tss_vectors(False) > 200


def seal_tss_vectors(sp: bool) -> int:
    def space(v: Vector) -> Any:
        return v["mode"], v["ssi"], v["mode"] == "server" and v["counter"] >> 47

    sealed = clients = 0
    vectors = [v for v in vectors_of("tss")["seal"] if v["sp"] is sp]
    for v in in_order(vectors, space, lambda v: v["epoch"] << 48 | v["counter"]):
        lead, tsc = bytes.fromhex(v["lead"]), v["epoch"] << 48 | v["counter"]
        with tss_group(v) as group:
            context, kind = tss_context(v, v["to_client"]), tss_v(v)
            with group.derive_keys([context]) as keys:
                assert keys[0].hex() == v["data_key"] + v["mask"], v["name"]
            group.use_key(v["an"])
            group.set_epoch(v["epoch"])
            counter = explicit(tsc, 47 if v["mode"] == "server" and v["direction_bit"] else 48)
            if v["mode"] == "server" and not v["to_client"]:
                with group.export_data_key(context) as key, eesp.Receiver(group) as receiver:
                    assert (key.key.hex(), key.salt.hex()) == (v["data_key"], v["mask"])
                    assert (key.profile, key.domain, key.v) == (eesp.Profile.TSS, v["sdi"], kind)
                    with eesp.Sender(key, counter=eesp.Explicit(counter.start)) as sender:
                        packet = sender.seal_one(payload_of(v), lead=lead)
                    opened = receiver.open_one(packet, lead=lead)
                clients += 1
            else:
                with eesp.Sender(group, v["ssi"], v=kind, counter=counter) as sender:
                    packet = sender.seal_one(payload_of(v), lead=lead)
                holder: eesp.TrustGroup | eesp.DataKey = group
                if v["to_client"]:
                    holder = eesp.DataKey.from_octets(group.export_data_key(context).to_octets())
                with eesp.Receiver(holder) as receiver:
                    opened = receiver.open_one(packet, lead=lead)
        assert packet.hex() == v["packet"], v["name"]
        assert (opened.payload, opened.id, opened.tsc) == (payload_of(v), v["ssi"], tsc)
        header = eesp.TssHeader.parse(packet)
        assert (header.an, header.sdi, header.epoch, header.counter) == (v["an"], v["sdi"], v["epoch"], v["counter"])
        assert header.ssi == (v["ssi"] if v["sp"] else None)
        sealed += 1
    assert clients > 50
    return sealed


def tss_receiver(v: Vector) -> eesp.Receiver | None:
    """The receiver for a vector's packet; None if there can be no key."""
    packet = bytes.fromhex(v["packet"])
    with tss_group(v) as group:
        if not v["from_server"]:
            if v["packet"] and group.domain_stats().epoch != v["current_epoch"]:
                an = int(v["packet"][:2], 16) & 1
                if v["keys"][an]:
                    group.use_key(an)
                    group.set_epoch(v["current_epoch"])
            return eesp.Receiver(group)
        sp = len(packet) >= 16 and packet[0] >> 2 & 1
        at = 8 if sp else 4
        said = {
            "sp": bool(sp),
            "ssi": int.from_bytes(packet[4:8], "big") if sp else 0,
            "epoch": int.from_bytes(packet[at : at + 2], "big") if len(packet) >= 16 else 0,
            "an": packet[0] & 1 if len(packet) >= 16 else 0,
        }
        try:
            return eesp.Receiver(group.export_data_key(tss_context({**v, **said}, True)))
        except eesp.NoKeyError:
            assert v["reason"] == "no_key"
            return None


def test_tss_accepted_and_refused() -> None:
    for v in vectors_of("tss")["accepted"]:
        receiver, lead = tss_receiver(v), bytes.fromhex(v["lead"])
        assert receiver is not None
        opened = receiver.open_one(bytes.fromhex(v["packet"]), lead=lead)
        assert opened.payload.hex() == v["payload"], v["name"]
        assert (opened.id, opened.epoch, opened.counter) == (v["ssi"], v["epoch"], v["counter"]), v["name"]
    for v in vectors_of("tss")["refused"]:
        receiver, lead, packet = tss_receiver(v), bytes.fromhex(v["lead"]), bytes.fromhex(v["packet"])
        if receiver is None:
            continue
        # The holder of a data key knows no other group.
        other = "context" if v["from_server"] and v["reason"] == "no_key" else None
        opener = receiver
        refused(v, lambda: opener.open_one(packet, lead=lead), other)
        parsed(v, lambda: eesp.TssHeader.parse(packet), v["reason"] in HEADER_REASONS - {"offset"})


def test_tss_derive() -> None:
    for v in vectors_of("tss")["derive"]:
        mask = {"rekey_mask": 2**32 - 1} if v["mode"] == "cluster" else {}
        with tss_group({**v, **mask}, [v["key"]]) as group:
            with group.derive_keys([tss_context(v, v["to_client"])] * 2) as keys:
                assert [key.hex() for key in keys] == [v["data_key"] + v["mask"]] * 2, v["name"]


# ---- eesp ------------------------------------------------------------------------------------------------------------


ENCAPS = {"": "TRANSPORT", "ip-tfs": "IPTFS"}


def eesp_group(v: Vector) -> eesp.TrustGroup:
    draft, encap = v.get("draft", 2), v.get("encap", "")
    made = eesp.TrustGroup(
        profile=eesp.Profile.EESP,
        aead=eesp.Aead[v["aead"].upper().replace("-", "_")],
        mode=eesp.Sskdf(v["sskdf"] or eesp.Sskdf.NONE),
        domain=v.get("spi", 1),
        sequence=v.get("seq", True),
        iv=v.get("iv", False),
        optimized=draft == 2 and not v.get("full", True),
        max_coffset=v.get("max_coffset", 0),
        align8=v.get("align8", False),
        sub_sas=v.get("sub_sas", 0),
        draft=draft,
        encap=eesp.Encap[ENCAPS.get(encap, encap.upper())],
    )
    made.set_key(0, bytes.fromhex(v["root"]))
    return made


def parse_eesp(v: Vector, packet: bytes) -> eesp.EespHeader:
    return eesp.EespHeader.parse(packet, sequence=v["seq"], iv=v["iv"], optimized=not v["full"], draft=v["draft"])


def test_eesp_seal() -> None:
    alone(seal_eesp_vectors)


def seal_eesp_vectors() -> None:
    sealed = 0
    for v in in_order(vectors_of("eesp")["seal"], lambda v: (v["spi"], v["session"]), lambda v: int(v["sequence"])):
        flow_id = bytes.fromhex(v["flow_id"])
        # Senders leave the payload's beginning in clear, not the Payload Info Header alone.
        if v["coffset"] == 1 or len(flow_id) > eesp.MAX_FLOW_ID:
            continue
        with eesp_group(v) as group, eesp.Receiver(group) as receiver:
            context = eesp.Context(v["session"])
            with group.derive_keys([context]) as keys:
                assert keys[0].hex() == v["data_key"] + v["mask"], v["name"]
            counter, coffset = explicit(v["sequence"]), max(v["coffset"] - 1, 0)
            with eesp.Sender(group, v["session"], counter=counter, extra=flow_id) as sender:
                packet = sender.seal_one(payload_of(v), coffset=coffset, next_header=v["next_header"])
            assert packet.hex() == v["packet"], v["name"]
            opened = receiver.open_one(packet)
            assert (opened.payload, opened.id, opened.tsc) == (payload_of(v), v["session"], v["sequence"]), v["name"]
            assert opened.coffset == coffset
            protocol = {4: 4, 6: 41}[payload_of(v)[0] >> 4] if not v["full"] else v["next_header"]
            assert opened.next_header == protocol, v["name"]
            header = parse_eesp(v, packet)
            assert (header.spi, header.session, header.coffset) == (v["spi"], v["session"], v["coffset"])
            assert {header.sequence, header.iv} - {None} == {v["sequence"]} and (header.flow_id or b"") == flow_id
        sealed += 1
    assert sealed > 600, sealed


def test_eesp_accepted_and_refused() -> None:
    def receiver_of(v: Vector) -> eesp.Receiver:
        settings = {k: v[k] for k in v.keys() & {"aead", "align8", "draft", "encap", "full", "iv", "max_coffset", "root", "seq", "spi"}}
        return made(json.dumps({**settings, "sskdf": v["sskdf"], "sub_sas": v["sub_sas"]}, sort_keys=True))

    made = functools.lru_cache(None)(lambda text: eesp.Receiver(eesp_group(json.loads(text))))
    for v in vectors_of("eesp")["accepted"]:
        packet = bytes.fromhex(v["packet"])
        opened = receiver_of(v).open_one(packet)
        assert opened.payload.hex() == v["payload"], v["name"]
        assert (opened.id, opened.tsc, opened.coffset) == (v["session"], v["sequence"], max(v["coffset"] - 1, 0))
        assert (parse_eesp(v, packet).flow_id or b"").hex() == v["flow_id"], v["name"]
        if v["full"]:
            assert opened.next_header == v["next_header"], v["name"]
    for n, v in enumerate(vectors_of("eesp")["refused"]):
        if n % 100 == 0:  # a receiver derives keys for 256 unknown Session IDs at once, and then few
            made.cache_clear()
        packet = bytes.fromhex(v["packet"])
        receiver = receiver_of(v)
        refused(v, lambda: receiver.open_one(packet))
        if v["reason"] in HEADER_REASONS - {"offset"} or v["reason"] in ("auth", "payload", "dummy", "session"):
            parsed(v, lambda: parse_eesp(v, packet), v["reason"] in HEADER_REASONS)


def test_eesp_derive() -> None:
    for v in vectors_of("eesp")["derive"]:
        with eesp_group(v) as group, group.derive_keys([eesp.Context(v["session"])] * 2) as keys:
            assert [key.hex() for key in keys] == [v["data_key"] + v["mask"]] * 2


# ---- Round trips -----------------------------------------------------------------------------------------------------

_epochs = iter(range(20_000, 1 << 16))
KEY = st.binary(min_size=32, max_size=32)
PAYLOADS = st.lists(st.binary(max_size=200), min_size=1, max_size=9)


@settings(max_examples=examples(80))
@given(KEY, KEY, st.sampled_from(eesp.PspVersion), st.integers(0, 2**32 - 1), PAYLOADS, st.data())
def test_psp_round_trips(
    one: bytes, other: bytes, version: eesp.PspVersion, spi: int, payloads: list[bytes], data: st.DataObject
) -> None:
    """Sealed here and opened there, and the other way round."""
    if one == other or spi in (0, 1 << 31):
        return
    epoch, start = next(_epochs), data.draw(st.integers(0, LAST - 10))
    extension = data.draw(st.sampled_from([b"", b"8 octets", b"8 octets, and then 16 of", bytes(112)]))
    has_vc = bool(extension) and data.draw(st.booleans())
    from_iv = data.draw(st.booleans())
    units = len(extension) // 4
    ends = [min(63, units + len(p) // 4) if from_iv else min(63 - units, len(p) // 4) for p in payloads]
    if version >= eesp.PspVersion.AES_128_GMAC:
        ends = [0] * len(payloads)
    coffsets = [data.draw(st.integers(0, end)) for end in ends]
    protocols = data.draw(st.lists(st.integers(0, 255), min_size=len(payloads), max_size=len(payloads)))
    with psp_group([one.hex(), other.hex()], [version]) as group, eesp.Receiver(group) as receiver:
        counter = eesp.Explicit(start, epoch)
        how: dict[str, Any] = {"extra": extension, "no_vc": not has_vc, "offset_from_iv": from_iv}
        with eesp.Sender(group, spi, v=version, counter=counter, **how) as sender:
            sealed = sender.seal(payloads, coffset=coffsets, next_header=protocols)
        sealed.raise_for_status()
        opened = receiver.open(sealed)
        assert [bytes(p) for p in opened] == payloads and list(opened.next_headers) == protocols
        assert list(opened.coffsets) == [max(0, c - units) for c in coffsets] if from_iv else coffsets
        assert [bytes(p) for p in receiver.open(sealed, extension=True)] == [extension + p for p in payloads]
    there = psp.Receiver([one, other], frozenset([int(version)]))
    for i, packet in enumerate(sealed):
        found = psp.open_packet(there, bytes(packet))
        assert (found.extension, found.payload) == (extension, payloads[i])
        header = found.header
        assert (header.spi, header.iv, header.next_header) == (spi, epoch << 48 | start + i, protocols[i])
        made = psp.seal(
            [one, other],
            version=int(version),
            spi=spi,
            iv=epoch << 48 | start + i,
            next_header=protocols[i],
            payload=payloads[i],
            extension=extension,
            has_vc=has_vc,
            coffset=coffsets[i],
            from_iv=from_iv,
        )
        assert made.packet == bytes(packet)


@settings(max_examples=examples(80))
@given(KEY, st.integers(0, 2**24 - 1), st.integers(0, 2**32 - 1), PAYLOADS, st.data())
def test_tss_round_trips(sdk: bytes, sdi: int, ssi: int, payloads: list[bytes], data: st.DataObject) -> None:
    """All ways to place leads; of both families where there is an SSI."""
    kind = data.draw(st.sampled_from(eesp.TssV))
    epoch, start = next(tss_epochs), data.draw(st.integers(0, LAST - 100))
    families = [
        data.draw(st.booleans()) if kind is eesp.TssV.SSI else kind >= eesp.TssV.ADDR_IPV6 for _ in payloads
    ]
    source = data.draw(st.binary(min_size=16, max_size=16))
    leads = [(source + bytes(20)) if ipv6 else source[:4] + bytes(8) for ipv6 in families]
    has_ssi = kind in (eesp.TssV.SSI, eesp.TssV.SSI_IPV6)
    id = ssi if has_ssi else 0
    group = eesp.TrustGroup(
        profile=eesp.Profile.TSS, mode=eesp.TssMode.CLUSTER, domain=sdi, rekey_mask=0xFFF0, rekey_shift=4
    )
    group.set_key(1, sdk)
    group.set_epoch(epoch)
    counter = eesp.Explicit(start, epoch)
    with group, eesp.Receiver(group) as receiver, eesp.Sender(group, id, v=kind, counter=counter) as sender:
        sealed = sender.seal(payloads, leads=leads)
        sealed.raise_for_status()
        for i, (packet, lead) in enumerate(zip(sealed, leads)):
            at = sealed.offsets[i]
            assert bytes(sealed.buffer[at - len(lead) : at]) == lead
            header = tss.Header(1, sdi, epoch, start + i, ssi if has_ssi else None)
            lead_there = tss.Lead(lead, families[i])
            made = tss.seal(tss.Mode.CLUSTER, sdk, header, lead_there, payloads[i], rekey=tss.Rekey(0xFFF0, 4))
            assert made.packet == bytes(packet)
        # In front of the packets, given for lists and Packets, in place.
        assert [bytes(p) for p in receiver.open(sealed, ipv6=families)] == payloads
        for packets in (sealed, [bytes(p) for p in sealed]):
            assert [bytes(p) for p in receiver.open(packets, leads=leads)] == payloads
        opened = receiver.open_in_place(eesp.Packets(sealed.buffer, sealed.offsets, sealed.lengths), ipv6=families)
        assert [bytes(p) for p in opened] == payloads
        # In place, with leads that are there and with those given.
        slot, room = 512, 64
        for given_leads in (None, leads):
            arena = bytearray(slot * len(payloads))
            for i, payload in enumerate(payloads):
                arena[i * slot + room : i * slot + room + len(payload)] = payload
                if given_leads is None:
                    front = i * slot + room - sender.header_len - len(leads[i])
                    arena[front : front + len(leads[i])] = leads[i]
            places = eesp.Packets(arena, range(room, len(arena), slot), map(len, payloads))
            if given_leads is None:
                done = sender.seal_in_place(places, ipv6=families)
            else:
                done = sender.seal_in_place(places, leads=given_leads)
            assert [bytes(p) for p in receiver.open(done, ipv6=families)] == payloads
        # Into places, with leads that are there.
        arena = bytearray(slot * len(payloads))
        for i, lead in enumerate(leads):
            arena[i * slot : i * slot + len(lead)] = lead
        done = sender.seal_into(
            payloads, eesp.Packets(arena, range(0, len(arena), slot), [slot] * len(payloads)), ipv6=families
        )
        assert [o % slot for o in done.offsets] == [len(lead) for lead in leads]
        assert [bytes(p) for p in receiver.open(done, ipv6=families)] == payloads
        out = bytearray(sender.sealed_size(payloads))
        assert sender.seal_into(payloads, out, leads=leads).ok


@settings(max_examples=examples(80))
@given(st.sampled_from(eesp.Sskdf), st.integers(1, 2**32 - 1), PAYLOADS, st.data())
def test_eesp_round_trips(mode: eesp.Sskdf, spi: int, payloads: list[bytes], data: st.DataObject) -> None:
    """Any SA of the full format."""
    aead = data.draw(st.sampled_from(eesp.Aead))
    # A root key is that of one SA, in the whole process.
    size = mode.key_len_with(aead)
    root = hashlib.shake_256(data.draw(st.binary(max_size=8)) + spi.to_bytes(4, "big")).digest(size)
    sequence, iv = data.draw(st.sampled_from([(True, False), (True, True), (False, True)]))
    align8, most = data.draw(st.booleans()), data.draw(st.sampled_from([0, 1, 9, 63]))
    draft = data.draw(st.sampled_from([2, 3]))
    flow_id = data.draw(st.binary(max_size=20)) if draft == 2 else b""
    encap = data.draw(st.sampled_from(sorted(set(eesp.Encap) - {eesp.Encap.TUNNEL}))) if draft == 3 else None
    sub_sas = 1 if mode is eesp.Sskdf.NONE else 10
    session, epoch = data.draw(st.integers(0, sub_sas - 1)), next(_epochs)
    start = data.draw(st.integers(1, LAST - 10))
    coffsets = [data.draw(st.integers(0, min(max(most - 1, 0), len(p) // 4))) for p in payloads]
    group = eesp.TrustGroup(
        profile=eesp.Profile.EESP,
        aead=aead,
        mode=mode,
        domain=spi,
        sequence=sequence,
        iv=iv,
        align8=align8,
        max_coffset=most,
        sub_sas=sub_sas,
        draft=draft,
        encap=encap or eesp.Encap.TRANSPORT,
    )
    group.set_key(0, root)
    with group, eesp.Receiver(group) as receiver:
        with eesp.Sender(group, session, extra=flow_id, counter=eesp.Explicit(start, epoch)) as sender:
            sealed = sender.seal(payloads, coffset=coffsets, next_header=17)
        sealed.raise_for_status()
        opened = receiver.open(sealed)
        assert [bytes(p) for p in opened] == payloads and set(opened.next_headers) == {17}
        assert list(opened.coffsets) == coffsets and set(opened.ids) == {session}
    sa = reference_eesp.Sa(
        spi=spi,
        sskdf=reference_eesp.Sskdf(mode % 255),
        aead=reference_eesp.Aead[aead.name],
        root=root,
        seq=sequence,
        iv=iv,
        max_coffset=most,
        align8=align8,
        sub_sas=sub_sas,
        draft=draft,
        encap=reference_eesp.Encap[encap.name] if encap is not None else None,
    )
    for i, packet in enumerate(sealed):
        made = reference_eesp.seal(
            sa,
            session=session,
            sequence=epoch << 48 | start + i,
            payload=payloads[i],
            next_header=17,
            coffset=coffsets[i] + 1 if coffsets[i] else 0,
            flow_id=flow_id,
        )
        assert made.sealed.packet == bytes(packet)


HEADER_STATUSES = {eesp.Status[reason.upper()] for reason in HEADER_REASONS}


@settings(max_examples=examples(300))
@given(data=st.data())
def test_headers_are_read_as_the_library_reads_them(data: st.DataObject) -> None:
    """Any octets: a header is refused for what opening refuses it for, and nothing else."""
    octet = st.integers(0, 255)
    if data.draw(st.booleans()):
        receiver = any_receiver(eesp.Profile.PSP)
        first = [data.draw(s) for s in (octet, st.sampled_from([1, 2, 3]), st.sampled_from([0, 1, 2, 9, 64]))]
        packet = bytes([*first, data.draw(octet)]) + bytes(12) + bytes(data.draw(st.integers(0, 60)))
        read: Callable[[bytes], object] = eesp.PspHeader.parse
    else:
        receiver = any_receiver(eesp.Profile.EESP)
        option = st.sampled_from([b"\0", b"\1\2\0\0", b"\1\0", b"\2\2\x14\0", b"\3\1x", b"\xe0\0", b"\4\0", b"\2\1\0"])
        area = b"".join(data.draw(st.lists(option, max_size=4)))
        area += bytes(-len(area) % data.draw(st.sampled_from([1, 4, 4, 4])))
        first_octet, number = data.draw(st.sampled_from([0x80, 0x80, 0x80, 0, 0x81, 0x88])), data.draw(st.integers(0, 1))
        packet = bytes([first_octet, len(area), 0, 0, 0, 0, 0, 1]) + area + number.to_bytes(8, "big")
        packet += bytes(data.draw(st.integers(0, 60)))
        read = eesp.EespHeader.parse
    (status,) = receiver.open([packet]).status
    try:
        read(packet)
        found = None
    except eesp.HeaderError as error:
        found = error.status
    assert found == (status if status in HEADER_STATUSES else None)


@functools.lru_cache(None)
def any_receiver(profile: eesp.Profile) -> eesp.Receiver:
    """A receiver of a group with all keys and formats."""
    if profile is eesp.Profile.PSP:
        return eesp.Receiver(psp_group(["11" * 32, "22" * 32], range(4)))
    sa = {"aead": "aes-128-gcm", "sskdf": 1, "spi": 1, "max_coffset": 63, "root": "33" * 32}
    return eesp.Receiver(eesp_group(sa))
