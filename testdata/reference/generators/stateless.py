"""The vectors of profile `stateless`."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from common.primitives import counter_mode, gcm_seal
from stateless import (
    Aead,
    CombineError,
    Combiner,
    Generation,
    Group,
    Header,
    Level,
    MasterKeyOption,
    Reason,
    RootKey,
    RootKeyError,
    Sealed,
    combine,
    decode_root_key,
    encode_header,
    encode_root_key,
    kdf_inputs,
    nonce,
    open_packet,
    seal,
)
from stateless.header import encode_first_word, id_len
from stateless.kdf import map_address
from stateless.rootkey import TAG_OCTETS, TAG_SEQUENCE, encode_integer, encode_tlv

from .vectors import Sections, Vector, check_refused, decided, flip, payload_fields, stream

V_VALUES = (0x0, 0x1, 0x2, 0x8, 0x9, 0xA)
LEVELS = (Level.ZONE, Level.USER, Level.TASK)
SUBSETS: tuple[tuple[Level, ...], ...] = tuple(
    subset for size in range(4) for subset in itertools.combinations(LEVELS, size)
)
# The first index (pre) of each level's ring. The user ring crosses the end of the octet: 254, 255, 0.
FIRST_INDEX = {Level.ZONE: 7, Level.USER: 254, Level.TASK: 0x0102}
MAX_COUNTER = 2**48 - 1

SRC4, DST4 = bytes([192, 0, 2, 1]), bytes([198, 51, 100, 7])
SRC6 = bytes.fromhex("20010db8000000000000000000000001")
DST6 = bytes.fromhex("20010db8ffff00ff0123456789abcdef")


def ring(level: Level, id_octets: int, *, shift: int = 0, tag: str = "main", first: int | None = None) -> RootKey:
    """A ring of a level; `shift` is how often it has been rotated."""
    start = (FIRST_INDEX[level] if first is None else first) + shift
    indices = (start, start + 1, start + 2)
    values = tuple(stream(f"root-key/{tag}/{level.label}/{index}".encode(), 32) for index in indices)
    root_key_id = stream(f"root-key-id/{tag}/{level.label}/{id_octets}".encode(), id_octets)
    return RootKey(root_key_id, indices, (values[0], values[1], values[2]))


def make_group(
    aead: Aead = Aead.AES_256_GCM,
    combiner: Combiner = Combiner.HKDF,
    levels: Sequence[Level] = (Level.ZONE,),
    default_levels: Sequence[Level] | None = None,
    *,
    id_sizes: Sequence[int] = (16, 16, 16),
    shifts: Sequence[int] = (0, 0, 0),
    tag: str = "main",
) -> Group:
    """A group; id_sizes and shifts are those of zone, user and task, whether present or not."""
    rings = {
        level: ring(level, id_sizes[i], shift=shifts[i], tag=tag) for i, level in enumerate(LEVELS) if level in levels
    }
    return Group(aead, combiner, rings, tuple(levels if default_levels is None else default_levels))


def group_json(group: Group) -> Vector:
    return {
        "aead": group.aead.value,
        "combiner": group.combiner.value,
        "levels": [
            {"level": level.label, "der": encode_root_key(group.levels[level]).hex()} for level in sorted(group.levels)
        ],
        "default_levels": [level.label for level in sorted(group.default_levels)],
    }


def sample_id(v: int, name: str) -> bytes:
    return stream(b"id/" + name.encode(), id_len(v))


# --- seal vectors ------------------------------------------------------------------------------------------------


def seal_vector(
    name: str,
    group: Group,
    *,
    v: int,
    payload_len: int,
    options: Sequence[Level] = (),
    id: bytes | None = None,
    epoch: int = 1,
    counter: int = 1,
    src_ip: bytes = b"",
    dst_ip: bytes = b"",
    coffset: int = 0,
    ioffset: int = 0,
    sender: Group | None = None,
    same_data_key_as: str = "",
) -> Vector:
    """A packet that `sender` (by default the group itself) seals and the group opens."""
    seed = b"payload/" + name.encode()
    payload = stream(seed, payload_len)
    identity = sample_id(v, name) if id is None else id
    sealed: Sealed = seal(
        sender or group,
        v=v,
        id=identity,
        epoch=epoch,
        counter=counter,
        payload=payload,
        options=options,
        src_ip=src_ip,
        dst_ip=dst_ip,
        coffset=coffset,
        ioffset=ioffset,
    )
    opened = open_packet(group, sealed.packet, src_ip=src_ip, dst_ip=dst_ip)
    if opened.payload != payload:
        raise AssertionError(f"{name}: the packet does not open to its payload")
    vector: Vector = {
        "name": name,
        "group": group_json(group),
        "v": v,
        "id": identity.hex(),
        "epoch": epoch,
        "counter": counter,
        "src_ip": src_ip.hex(),
        "dst_ip": dst_ip.hex(),
        "options": [level.label for level in sorted(options)],
        "key_generation": {use.level.label: use.generation.label for use in opened.uses},
        "coffset": coffset,
        "ioffset": ioffset,
        **payload_fields(seed, payload),
        "header_len": len(sealed.header),
        "master_key": sealed.master_key.hex(),
        "kdf_inputs": [block.hex() for block in sealed.kdf_inputs],
        "data_key": sealed.data_key.hex(),
        "nonce": sealed.nonce.hex(),
        "aad": sealed.aad.hex(),
        "packet": sealed.packet.hex(),
    }
    if sender is not None:
        vector["sender_group"] = group_json(sender)
    if same_data_key_as:
        vector["same_data_key_as"] = same_data_key_as
    return vector


def seal_matrix() -> Iterator[Vector]:
    """Every V, every subset of options, both key sizes, both combiners; the rest in step, so that it varies too."""
    id_sizes = itertools.cycle([(16, 17, 19), (32, 16, 18), (17, 32, 16), (19, 31, 32), (16, 16, 16), (32, 32, 32)])
    addresses = itertools.cycle([(SRC4, DST4), (SRC6, DST6), (DST6, SRC6), (SRC4, DST6), (DST4, SRC4)])
    shapes = itertools.cycle([(64, 0, 0), (40, 3, 1), (17, 2, 2), (33, 4, 0), (16, 4, 4), (1, 0, 0), (24, 6, 5)])
    defaults = itertools.cycle(SUBSETS[1:])
    number = 0
    for aead, combiner, v, options in itertools.product(Aead, Combiner, V_VALUES, SUBSETS):
        number += 1
        default = next(defaults)
        # Every third group holds no more levels than the packet needs.
        levels = (options or default) if number % 3 == 0 else LEVELS
        default = tuple(level for level in default if level in levels) or tuple(levels[:1])
        src_ip, dst_ip = next(addresses)
        payload_len, coffset, ioffset = next(shapes)
        named = "+".join(level.label for level in options) or "default"
        yield seal_vector(
            f"matrix/{aead.value}/{combiner.value}/v{v:x}/{named}",
            make_group(aead, combiner, levels, default, id_sizes=next(id_sizes)),
            v=v,
            options=options,
            epoch=number * 331 % 65536,
            counter=number * 1_000_000_007 % 2**48,
            src_ip=src_ip if v & 7 >= 1 else b"",
            dst_ip=dst_ip if v & 7 == 2 else b"",
            payload_len=payload_len,
            coffset=coffset,
            ioffset=ioffset,
        )


def seal_offsets() -> Iterator[Vector]:
    cases = [
        # payload length, COffset, IOffset
        (0, 0, 0),
        (1, 0, 0),
        (3, 0, 0),
        (4, 1, 0),
        (4, 1, 1),
        (5, 1, 0),
        (16, 0, 0),
        (16, 4, 0),
        (16, 4, 4),
        (17, 4, 2),
        (19, 4, 4),
        (20, 5, 0),
        (60, 15, 15),
        (64, 16, 0),
        (64, 16, 15),
        (64, 15, 15),
        (100, 25, 3),
        (100, 5, 5),
        (100, 5, 0),
        (100, 24, 15),
        (1020, 255, 0),
        (1020, 255, 15),
        (1021, 255, 7),
        (1024, 200, 1),
    ]
    for n, (payload_len, coffset, ioffset) in enumerate(cases):
        group = make_group(list(Aead)[n % 2])
        yield seal_vector(
            f"offsets/len{payload_len}-c{coffset}-i{ioffset}",
            group,
            v=(0x0, 0x8)[n // 2 % 2],
            options=(Level.ZONE,) if n % 3 == 0 else (),
            payload_len=payload_len,
            coffset=coffset,
            ioffset=ioffset,
        )


def seal_lengths() -> Iterator[Vector]:
    for aead in Aead:
        for payload_len in (0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 200, 255, 256, 257, 1420):
            yield seal_vector(
                f"length/{aead.value}/{payload_len}",
                make_group(aead),
                v=0x1,
                src_ip=SRC4,
                payload_len=payload_len,
                coffset=1 if payload_len % 2 and payload_len >= 4 else 0,
            )
        yield seal_vector(f"length/{aead.value}/9000", make_group(aead), v=0x8, payload_len=9000, coffset=10, ioffset=5)


def seal_extremes() -> Iterator[Vector]:
    group = make_group()
    for v in (0x0, 0x8):
        for epoch in (0, 1, 0x00FF, 0x0100, 65535):
            yield seal_vector(f"extreme/v{v:x}/epoch-{epoch}", group, v=v, epoch=epoch, payload_len=20)
        for counter in (0, 1, 2**32 - 1, 2**32, 2**47, MAX_COUNTER - 1, MAX_COUNTER):
            yield seal_vector(f"extreme/v{v:x}/counter-{counter:012x}", group, v=v, counter=counter, payload_len=20)
    yield seal_vector("extreme/everything-zero", group, v=0, id=bytes(4), epoch=0, counter=0, payload_len=0)
    yield seal_vector(
        "extreme/everything-ones", group, v=8, id=b"\xff" * 8, epoch=65535, counter=MAX_COUNTER, payload_len=16
    )
    yield seal_vector("extreme/connection-id-halves-equal", group, v=8, id=b"\x01\x02\x03\x04" * 2, payload_len=16)
    yield seal_vector("extreme/device-id-5", group, v=0, id=bytes([0, 0, 0, 5]), payload_len=16)
    # The same eight octets of context as the one above; V keeps the two apart.
    yield seal_vector("extreme/connection-id-5", group, v=8, id=bytes([0, 0, 0, 0, 0, 0, 0, 5]), payload_len=16)
    yield seal_vector(
        "extreme/longest-header",
        make_group(levels=LEVELS, id_sizes=(32, 32, 32)),
        v=0xA,
        options=LEVELS,
        src_ip=SRC6,
        dst_ip=DST6,
        payload_len=16,
    )


def seal_addresses() -> Iterator[Vector]:
    group = make_group(Aead.AES_128_GCM)
    for v in (0x1, 0x2, 0x9, 0xA):
        identity = sample_id(v, "addresses")
        both = v & 7 == 2
        for name, src, dst in (
            ("v4", SRC4, DST4),
            ("v4-as-mapped", map_address(SRC4), map_address(DST4)),
            ("v6", SRC6, DST6),
            ("v4-v6", SRC4, DST6),
            ("v6-v4", SRC6, DST4),
            ("v4-zero", bytes(4), bytes(4)),
            ("v6-zero", bytes(16), bytes(16)),
            ("v6-compatible", bytes(12) + SRC4, bytes(12) + DST4),
        ):
            if name in ("v4-v6", "v6-v4") and not both:
                continue
            twin = f"address/v{v:x}/v4" if name == "v4-as-mapped" else ""
            yield seal_vector(
                f"address/v{v:x}/{name}",
                group,
                v=v,
                id=identity,
                counter=2 if twin else 1,
                src_ip=src,
                dst_ip=dst if both else b"",
                payload_len=12,
                same_data_key_as=twin,
            )
    for v in (0x0, 0x8):
        identity = sample_id(v, "addresses")
        yield seal_vector(f"address/v{v:x}/none", group, v=v, id=identity, payload_len=12)
        yield seal_vector(
            f"address/v{v:x}/ignored",
            group,
            v=v,
            id=identity,
            counter=2,
            src_ip=SRC6,
            dst_ip=DST6,
            payload_len=12,
            same_data_key_as=f"address/v{v:x}/none",
        )
    for v in (0x1, 0x9):
        yield seal_vector(
            f"address/v{v:x}/destination-ignored",
            group,
            v=v,
            id=sample_id(v, "addresses"),
            counter=3,
            src_ip=SRC4,
            dst_ip=DST6,
            payload_len=12,
            same_data_key_as=f"address/v{v:x}/v4",
        )


def seal_generations() -> Iterator[Vector]:
    """Packets from senders that have rotated once more (next) or once less (pre) than the receiver."""
    for combiner in Combiner:
        receiver = make_group(combiner=combiner, levels=LEVELS, id_sizes=(16, 17, 32))
        for n, options in enumerate(SUBSETS[1:]):
            for shift, name in ((-1, "pre"), (0, "current"), (1, "next")):
                sender = make_group(combiner=combiner, levels=LEVELS, id_sizes=(16, 17, 32), shifts=(shift,) * 3)
                yield seal_vector(
                    f"generation/{combiner.value}/{'+'.join(level.label for level in options)}/{name}",
                    receiver,
                    sender=sender,
                    v=V_VALUES[n % 6],
                    options=options,
                    src_ip=SRC4,
                    dst_ip=DST4,
                    payload_len=32,
                    coffset=2,
                )
        for shifts in ((-1, 0, 1), (1, -1, 0), (0, 1, -1), (-1, 1, 1)):
            sender = make_group(combiner=combiner, levels=LEVELS, id_sizes=(16, 17, 32), shifts=shifts)
            mixed = "-".join(Generation(1 + shift).label for shift in shifts)
            yield seal_vector(
                f"generation/{combiner.value}/mixed/{mixed}",
                receiver,
                sender=sender,
                v=0x0,
                options=LEVELS,
                payload_len=32,
            )
    # A ring without a pre carries its current there, too.
    whole = ring(Level.ZONE, 16)
    young = RootKey(
        whole.root_key_id,
        (whole.indices[1], whole.indices[1], whole.indices[2]),
        (whole.values[1], whole.values[1], whole.values[2]),
    )
    group = Group(Aead.AES_256_GCM, Combiner.HKDF, {Level.ZONE: young}, (Level.ZONE,))
    yield seal_vector("generation/ring-without-pre", group, v=0x0, options=(Level.ZONE,), payload_len=8)
    # Options or not: the same root keys make the same data key, hence share one counter space.
    group = make_group(levels=LEVELS, default_levels=LEVELS)
    for v in (0x0, 0x8):
        identity = sample_id(v, "shared")
        yield seal_vector(f"generation/v{v:x}/options-sent", group, v=v, id=identity, options=LEVELS, payload_len=8)
        yield seal_vector(
            f"generation/v{v:x}/options-not-sent",
            group,
            v=v,
            id=identity,
            counter=2,
            payload_len=8,
            same_data_key_as=f"generation/v{v:x}/options-sent",
        )


def seal_equal_values() -> Iterator[Vector]:
    """Two levels with one value: refused by xor, fine for hkdf."""
    zone = ring(Level.ZONE, 16)
    user = RootKey(ring(Level.USER, 16).root_key_id, (3, 4, 5), zone.values)
    group = Group(Aead.AES_128_GCM, Combiner.HKDF, {Level.ZONE: zone, Level.USER: user}, (Level.ZONE, Level.USER))
    yield seal_vector("hkdf-equal-values", group, v=0x0, options=(Level.ZONE, Level.USER), payload_len=8)


# --- raw packets -------------------------------------------------------------------------------------------------


def raw_option(
    kind: int, index: int, root_key_id: bytes, *, padding: bytes | None = None, count: int | None = None, grow: int = 0
) -> bytes:
    """A Master Key Option with any of its parts wrong: `count` overrides the Padding field, `grow` adds to length."""
    tail = bytes(-len(root_key_id) % 4) if padding is None else padding
    body = bytes([index, len(tail) if count is None else count]) + root_key_id + tail
    return bytes([kind, len(body) + grow]) + body


def raw_header(
    *,
    area: bytes,
    id: bytes,
    v: int = 0,
    version: int = 0,
    reserve: int = 0,
    coffset: int = 0,
    ioffset: int = 0,
    hl: int | None = None,
    epoch: int = 1,
    counter: int = 1,
) -> bytes:
    """A header from raw fields and a raw option area, whatever sense they make."""
    size = 4 + len(id) + len(area) + 8
    if hl is None:
        if size % 8:
            raise AssertionError("the header is not a multiple of 8 octets")
        hl = size // 8 - 1
    tail = epoch.to_bytes(2, "big") + counter.to_bytes(6, "big")
    return encode_first_word(version, hl, v, reserve, coffset, ioffset) + id + area + tail


def raw_packet(
    group: Group, levels: Sequence[Level], header: bytes, payload: bytes, *, v: int = 0, id: bytes, clear: int = 0
) -> bytes:
    """A packet whose ICV is right for a header that may be wrong: who overlooks the fault would accept it."""
    master = combine(group.combiner, [group.use(level, Generation.CURRENT) for level in levels])
    epoch = int.from_bytes(header[-8:-6], "big")
    counter = int.from_bytes(header[-6:], "big")
    kind = v & 8 | min(v & 7, 2)
    key = counter_mode(master, kdf_inputs(kind, id, epoch, SRC4, DST4, group.aead.key_bits))
    aad = header + payload[:clear]
    return header + payload[:clear] + gcm_seal(key, nonce(id, epoch, counter), aad, payload[clear:])


# --- packets that open though this implementation would not send them --------------------------------------------


def accepted_vector(
    name: str,
    group: Group,
    packet: bytes,
    *,
    src_ip: bytes = b"",
    dst_ip: bytes = b"",
    own_ids: Sequence[bytes] = (),
    decision: str = "",
) -> Vector:
    opened = open_packet(group, packet, src_ip=src_ip, dst_ip=dst_ip, own_ids=own_ids)
    vector: Vector = {
        "name": name,
        "group": group_json(group),
        "src_ip": src_ip.hex(),
        "dst_ip": dst_ip.hex(),
        "own_ids": [own.hex() for own in own_ids],
        "packet": packet.hex(),
        "payload": opened.payload.hex(),
    }
    return decided(vector, decision)


def accepted() -> Iterator[Vector]:
    group = make_group()
    id8, id4 = sample_id(8, "accepted"), sample_id(0, "accepted")
    zone = group.use(Level.ZONE, Generation.CURRENT)
    option = raw_option(Level.ZONE, zone.index, zone.root_key_id)
    payload = stream(b"payload/accepted", 24)

    pads = {
        "pad1-pad1-pad1-pad1": "00000000",
        "pad1-pad1-padn0": "00000100",
        "pad1-padn0-pad1": "00010000",
        "padn0-pad1-pad1": "01000000",
        "padn0-padn0": "01000100",
        "pad1-padn1": "00010100",
        "padn1-pad1": "01010000",
    }
    for name, pad in pads.items():
        for before, area, v, id in (("alone", b"", 8, id8), ("after-option", option, 0, id4)):
            header = raw_header(area=area + bytes.fromhex(pad), id=id, v=v)
            packet = raw_packet(group, (Level.ZONE,), header, payload, v=v, id=id)
            yield accepted_vector(f"padding/{name}/{before}", group, packet, decision="padding_mix")

    # What lies before IOffset is not authenticated: any change passes, and shows in the payload.
    sealed = seal(group, v=0, id=id4, epoch=1, counter=1, payload=payload, coffset=4, ioffset=2)
    for at in range(8):
        changed = bytearray(sealed.packet)
        changed[len(sealed.header) + at] ^= 0x80 >> at
        yield accepted_vector(f"unauthenticated/octet-{at}", group, bytes(changed))

    yield accepted_vector("own-ids/another", group, sealed.packet, own_ids=[bytes(4), id8])
    yield accepted_vector(
        "own-ids/same-number-other-length", group, sealed.packet, own_ids=[bytes(4) + id4], decision="own_id_length"
    )


# --- refused packets ---------------------------------------------------------------------------------------------


def refused_vector(
    name: str,
    reason: Reason,
    group: Group,
    packet: bytes,
    *,
    src_ip: bytes = SRC4,
    dst_ip: bytes = DST4,
    own_ids: Sequence[bytes] = (),
    decision: str = "",
) -> Vector:
    """A packet that must be refused; the reason is stated by the caller and checked here."""
    check_refused(
        name, reason, lambda: open_packet(group, packet, src_ip=src_ip, dst_ip=dst_ip, own_ids=own_ids)
    )
    vector: Vector = {
        "name": name,
        "reason": reason.value,
        "group": group_json(group),
        "src_ip": src_ip.hex(),
        "dst_ip": dst_ip.hex(),
        "own_ids": [own.hex() for own in own_ids],
        "packet": packet.hex(),
    }
    return decided(vector, decision)


def refused_first_word() -> Iterator[Vector]:
    group = make_group()
    payload = stream(b"payload/first-word", 20)
    for v, pad in ((0x0, b""), (0x8, b"\x01\x02\x00\x00")):
        id = sample_id(v, "first-word")

        def forged(kind: int = v, id: bytes = id, pad: bytes = pad, **fields: int) -> bytes:
            header = raw_header(area=pad, id=id, v=kind, **fields)
            return raw_packet(group, (Level.ZONE,), header, payload, v=kind, id=id, clear=4 * fields.get("coffset", 0))

        for version in range(1, 16):
            yield refused_vector(f"version/v{v:x}/{version}", Reason.VERSION, group, forged(version=version))
        for low in range(3, 8):
            yield refused_vector(f"v/{v | low:x}", Reason.V, group, forged(v | low))
        for reserve in (1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xFF):
            yield refused_vector(f"reserved/v{v:x}/{reserve:02x}", Reason.RESERVED, group, forged(reserve=reserve))
        for ioffset, coffset in ((1, 0), (2, 1), (15, 0), (5, 4), (15, 3)):
            yield refused_vector(
                f"offset/v{v:x}/i{ioffset}-c{coffset}", Reason.OFFSET, group, forged(ioffset=ioffset, coffset=coffset)
            )
        for coffset in (6, 7, 16, 128, 255):
            yield refused_vector(f"offset/v{v:x}/c{coffset}-of-20", Reason.OFFSET, group, forged(coffset=coffset))
    for v in (0x0, 0x8):
        id = sample_id(v, "empty")
        for payload_len, coffset in ((0, 1), (0, 4), (0, 255), (1, 1), (3, 1), (4, 2), (15, 4), (17, 5), (1019, 255)):
            pad = b"\x01\x02\x00\x00" if v else b""
            header = raw_header(area=pad, id=id, v=v, coffset=coffset)
            packet = raw_packet(group, (Level.ZONE,), header, bytes(payload_len), v=v, id=id, clear=payload_len)
            yield refused_vector(f"offset/v{v:x}/c{coffset}-of-{payload_len}", Reason.OFFSET, group, packet)


def refused_header_len() -> Iterator[Vector]:
    group = make_group()
    for v, hls in ((0x0, (0,)), (0x8, (0, 1)), (0x1, (0,)), (0xA, (0, 1))):
        id = sample_id(v, "header-len")
        for hl in hls:
            # As long as a whole packet, so that only HL is at fault.
            header = raw_header(area=b"" if v & 8 == 0 else b"\x01\x02\x00\x00", id=id, v=v, hl=hl)
            packet = raw_packet(group, (Level.ZONE,), header, bytes(64), v=v, id=id)
            yield refused_vector(f"header_len/v{v:x}/hl{hl}", Reason.HEADER_LEN, group, packet)
    # HL says more than the packet holds.
    for v in (0x0, 0x8):
        id = sample_id(v, "header-len")
        pad = b"\x01\x02\x00\x00" if v else b""
        header = raw_header(area=pad, id=id, v=v)
        for hl in range(len(header) // 8, 16):
            wrong = raw_header(area=pad, id=id, v=v, hl=hl)
            size = 8 * (hl + 1)
            packet = raw_packet(group, (Level.ZONE,), wrong, bytes(size - len(header) - 1), v=v, id=id)
            yield refused_vector(f"short/v{v:x}/hl{hl}-one-octet-missing", Reason.SHORT, group, packet)


def refused_truncated() -> Iterator[Vector]:
    cases: list[tuple[str, Group, dict[str, Any]]] = [
        ("plain", make_group(), {"v": 0x0, "id": sample_id(0, "cut"), "coffset": 3, "ioffset": 1}),
        (
            "option",
            make_group(id_sizes=(17, 16, 16)),
            {"v": 0x8, "id": sample_id(8, "cut"), "options": (Level.ZONE,), "coffset": 5},
        ),
    ]
    for name, group, fields in cases:
        sealed = seal(group, epoch=1, counter=1, payload=stream(b"payload/cut", 30), **fields)
        for size in range(len(sealed.packet)):
            left = size - len(sealed.header) - 16
            if left < 0:
                reason = Reason.SHORT
            elif left < 4 * fields["coffset"]:
                reason = Reason.OFFSET
            else:
                reason = Reason.AUTH
            yield refused_vector(f"truncated/{name}/{size}", reason, group, sealed.packet[:size])
        yield refused_vector(f"extended/{name}", Reason.AUTH, group, sealed.packet + b"\x00")


def refused_options() -> Iterator[Vector]:
    group = make_group(levels=LEVELS, default_levels=(Level.ZONE,))
    odd = make_group(id_sizes=(17, 16, 16))
    id4, id8 = sample_id(0, "options"), sample_id(8, "options")
    payload = stream(b"payload/options", 16)
    zone, user, task = (group.use(level, Generation.CURRENT) for level in LEVELS)
    zone_option, user_option, task_option = (
        raw_option(use.level, use.index, use.root_key_id) for use in (zone, user, task)
    )
    zone17 = odd.use(Level.ZONE, Generation.CURRENT)
    pad4 = b"\x01\x02\x00\x00"

    def vector(
        name: str, area: bytes, levels: Sequence[Level] = (Level.ZONE,), *, use: Group = group, decision: str = ""
    ) -> Vector:
        v, id = (0, id4) if len(area) % 8 == 0 else (8, id8)
        header = raw_header(area=area, id=id, v=v)
        packet = raw_packet(use, levels, header, payload, v=v, id=id)
        return refused_vector(f"option/{name}", Reason.OPTION, use, packet, decision=decision)

    for kind in (0x02, 0x03, 0x7F, 0x80, 0xDF, 0xE3, 0xFE, 0xFF):
        yield vector(f"unknown-{kind:02x}", bytes([kind, 2, 0, 0]))
        yield vector(f"unknown-{kind:02x}-after-zone", zone_option + bytes([kind, 2, 0, 0]))
        yield vector(f"unknown-{kind:02x}-like-a-key", raw_option(kind, zone.index, zone.root_key_id) + pad4)
    yield vector("duplicate-zone", zone_option + zone_option)
    yield vector("duplicate-user", user_option + user_option, (Level.USER,))
    yield vector("duplicate-task", zone_option + task_option + task_option, (Level.ZONE, Level.TASK))
    yield vector("order-user-zone", user_option + zone_option, (Level.ZONE, Level.USER))
    yield vector("order-task-user", task_option + user_option, (Level.USER, Level.TASK))
    yield vector("order-task-zone", task_option + zone_option, (Level.ZONE, Level.TASK))
    yield vector("order-zone-task-user", zone_option + task_option + user_option, LEVELS)
    yield vector("order-task-user-zone", task_option + user_option + zone_option, LEVELS)

    # The same again with the ICV of a receiver that would combine in the order of the options.
    yield vector("duplicate-zone-both-combined", zone_option + zone_option, (Level.ZONE, Level.ZONE))
    yield vector("order-user-zone-as-sent", user_option + zone_option, (Level.USER, Level.ZONE))
    yield vector("order-task-zone-user-as-sent", task_option + zone_option + user_option, (LEVELS[2], *LEVELS[:2]))

    # Root key IDs of a wrong length, padded as they should be.
    for size in (0, 1, 4, 12, 13, 15, 33, 34, 36, 48):
        option = raw_option(Level.ZONE, zone.index, stream(b"some-id", size))
        yield vector(f"id-of-{size}", option + (pad4 if len(option) % 8 else b""))
    for length in (0, 1):
        yield vector(f"length-{length}", bytes([Level.ZONE, length]) + bytes(length) + bytes(2 - length))
    # Padding that is inconsistent with the length.
    for count in (1, 2, 3):
        # 16 octets declared as `count` octets fewer, the rest of them padding: the ID would be 13 to 15 octets.
        option = raw_option(Level.ZONE, zone.index, stream(b"some-id", 16 - count), padding=bytes(count), count=count)
        yield vector(f"padding-{count}-leaves-{16 - count}", option + pad4)
    for count in (4, 5, 7, 8, 12, 16, 0x80, 0xFF):
        option = raw_option(Level.ZONE, zone.index, stream(b"some-id", 32), count=count)
        yield vector(f"padding-field-{count}", option + pad4)
    for count in (4, 8, 12, 16):
        option = raw_option(Level.ZONE, zone.index, zone.root_key_id, padding=bytes(count))
        area = option + (pad4 if len(option) % 8 else b"")
        yield vector(f"padding-of-{count}", area, decision="padding_least")
    for name, padding in (("first", b"\x01\x00\x00"), ("middle", b"\x00\x80\x00"), ("last", b"\x00\x00\x01")):
        option = raw_option(Level.ZONE, zone17.index, zone17.root_key_id, padding=padding)
        yield vector(f"padding-not-zero-{name}", option, use=odd)
    for short in (1, 2):
        # The option's size is no multiple of 4; Pad1 options make up for it, so that the header's is.
        option = raw_option(Level.ZONE, zone17.index, zone17.root_key_id, padding=bytes(3 - short))
        yield vector(f"unaligned-by-{short}", option + bytes(short), use=odd)
    option = raw_option(Level.ZONE, zone17.index, zone17.root_key_id, padding=b"")
    yield vector("unaligned-no-padding", option + bytes(3), use=odd)

    # Lengths that go beyond the header.
    yield vector("beyond-by-1", raw_option(Level.ZONE, zone.index, zone.root_key_id, grow=1))
    yield vector("beyond-by-8", raw_option(Level.ZONE, zone.index, zone.root_key_id, grow=8))
    yield vector("beyond-255", bytes([Level.ZONE, 0xFF]) + zone_option[2:])
    yield vector("beyond-second", zone_option + raw_option(Level.USER, user.index, user.root_key_id, grow=4))
    yield vector("beyond-padn", b"\x01\x03\x00\x00")
    yield vector("beyond-padn-255", zone_option + b"\x01\xff\x00\x00")
    yield vector("no-length-padn", b"\x00\x00\x00\x01")
    yield vector("no-length-zone", b"\x00\x00\x00\xe0")
    yield vector("no-length-after-zone", zone_option + b"\x00\x00\x00\xe1")

    # Padding options.
    for pad in ("01020001", "01020100", "01028000", "01010100", "01010400", "00010101"):
        yield vector(f"padn-not-zero-{pad}", bytes.fromhex(pad))
        yield vector(f"padn-not-zero-{pad}-after-zone", zone_option + bytes.fromhex(pad))
    yield vector("padding-before-zone", pad4 + zone_option, decision="padding_last")
    yield vector("padding-before-zone-pad1", bytes(4) + zone_option, decision="padding_last")
    yield vector(
        "padding-between", zone_option + pad4 + user_option, (Level.ZONE, Level.USER), decision="padding_last"
    )
    for size in (8, 12, 16, 32, 104):
        yield vector(f"padding-{size}-padn", bytes([1, size - 2]) + bytes(size - 2), decision="padding_limit")
        yield vector(f"padding-{size}-pad1", bytes(size), decision="padding_limit")
    yield vector("padding-8-after-zone", zone_option + pad4 + pad4, decision="padding_limit")
    yield vector("padding-12-after-zone", zone_option + pad4 + bytes(8), decision="padding_limit")


def refused_no_key() -> Iterator[Vector]:
    payload = stream(b"payload/no-key", 16)
    id = sample_id(0, "no-key")

    def vector(
        name: str, receiver: Group, sender: Group, options: Sequence[Level], reason: Reason = Reason.NO_KEY
    ) -> Vector:
        packet = seal(sender, v=0, id=id, epoch=1, counter=1, payload=payload, options=options).packet
        return refused_vector(name, reason, receiver, packet)

    receiver = make_group()
    for other in LEVELS[1:]:
        yield vector(f"no_key/no-such-level/{other.label}", receiver, make_group(levels=(other,)), (other,))
    yield vector(
        "no_key/one-level-of-two", receiver, make_group(levels=LEVELS[:2]), (Level.ZONE, Level.USER)
    )
    for size in (16, 17, 20, 32):
        yield vector(
            f"no_key/other-id-of-{size}",
            receiver,
            make_group(id_sizes=(size, 16, 16), tag="main" if size != 16 else "other"),
            (Level.ZONE,),
        )
    # The ID is a prefix of the other one, with zeros in place of padding.
    zone = ring(Level.ZONE, 16)
    for extra in (1, 2, 3):
        longer = RootKey(zone.root_key_id + bytes(extra), zone.indices, zone.values)
        group = Group(Aead.AES_256_GCM, Combiner.HKDF, {Level.ZONE: longer}, (Level.ZONE,))
        yield vector(f"no_key/id-and-{extra}-zero-octets", receiver, group, (Level.ZONE,))
        yield vector(f"no_key/id-less-{extra}-zero-octets", group, receiver, (Level.ZONE,))
    for bit in (0, 7, 64, 127):
        flipped = (int.from_bytes(zone.root_key_id, "big") ^ 1 << bit).to_bytes(16, "big")
        group = Group(
            Aead.AES_256_GCM, Combiner.HKDF, {Level.ZONE: RootKey(flipped, zone.indices, zone.values)}, (Level.ZONE,)
        )
        yield vector(f"no_key/id-bit-{bit}", receiver, group, (Level.ZONE,))
    # Rotated too often since, or not often enough.
    for shift in (-5, -2, 2, 3, 100, 248):
        yield vector(f"no_key/index/shift-{shift}", receiver, make_group(shifts=(shift, 0, 0)), (Level.ZONE,))
    two = make_group(levels=LEVELS)
    for i, level in enumerate(LEVELS):
        shifts = tuple(2 if n == i else 0 for n in range(3))
        yield vector(f"no_key/index/only-{level.label}", two, make_group(levels=LEVELS, shifts=shifts), LEVELS)
    # Indices equal modulo 256 are one index on the wire: the key is found, and is the wrong one.
    yield vector("auth/index-256-later", receiver, make_group(shifts=(256, 0, 0)), (Level.ZONE,), Reason.AUTH)

    bare = Group(Aead.AES_256_GCM, Combiner.HKDF, receiver.levels, ())
    packet = seal(receiver, v=0, id=id, epoch=1, counter=1, payload=payload).packet
    yield refused_vector("no_key/no-default-levels", Reason.NO_KEY, bare, packet, decision="no_default_levels")

    # xor with equal values: the packet names keys that must not be combined. The ICV is right for the zone's key alone.
    user = RootKey(ring(Level.USER, 16).root_key_id, (3, 4, 5), zone.values)
    group = Group(Aead.AES_256_GCM, Combiner.XOR, {Level.ZONE: zone, Level.USER: user}, (Level.ZONE,))
    options = tuple(
        MasterKeyOption(use.level, use.index, use.root_key_id)
        for use in (group.use(level, Generation.CURRENT) for level in (Level.ZONE, Level.USER))
    )
    header = encode_header(Header(0, id, 1, 1, options=options))
    packet = raw_packet(group, (Level.ZONE,), header, payload, id=id)
    yield refused_vector("no_key/xor-equal-values", Reason.NO_KEY, group, packet, decision="uncombinable")


def refused_reflected() -> Iterator[Vector]:
    group = make_group()
    for v in V_VALUES:
        id = sample_id(v, "reflected")
        sealed = seal(group, v=v, id=id, epoch=1, counter=1, payload=bytes(16), src_ip=SRC4, dst_ip=DST4)
        yield refused_vector(f"reflected/v{v:x}", Reason.REFLECTED, group, sealed.packet, own_ids=[id])
        sealed = seal(
            group, v=v, id=id, epoch=1, counter=2, payload=bytes(16), src_ip=SRC4, dst_ip=DST4, options=(Level.ZONE,)
        )
        others = [bytes(len(id)), sample_id(v ^ 8, "reflected"), id]
        yield refused_vector(f"reflected/v{v:x}/one-of-three", Reason.REFLECTED, group, sealed.packet, own_ids=others)


def refused_auth() -> Iterator[Vector]:
    for v in (0x0, 0x8):
        group = make_group((Aead.AES_256_GCM, Aead.AES_128_GCM)[v // 8])
        id = sample_id(v, "flip")
        sealed = seal(
            group,
            v=v,
            id=id,
            epoch=0x0102,
            counter=0x030405060708,
            payload=stream(b"payload/flip", 30),
            coffset=3,
            ioffset=1,
        )
        header_len, size = len(sealed.header), len(sealed.packet)
        names: list[tuple[str, range]] = [
            ("id", range(32, 8 * (4 + len(id)))),
            ("epoch-counter", range(8 * (header_len - 8), 8 * header_len)),
            ("aad", range(8 * (header_len + 4), 8 * (header_len + 12))),
            ("ciphertext", range(8 * (header_len + 12), 8 * (size - 16))),
            ("icv", range(8 * (size - 16), 8 * size)),
        ]
        for name, bits in names:
            for bit in bits:
                # Every bit of the header and the ICV; elsewhere one of each octet is enough.
                if name in ("aad", "ciphertext") and bit % 8 != bit // 8 % 8:
                    continue
                yield refused_vector(f"flip/v{v:x}/{name}/bit-{bit}", Reason.AUTH, group, flip(sealed.packet, bit))
        # Offsets that are in range, but not those sealed with.
        for coffset, ioffset in ((3, 0), (3, 2), (3, 3), (2, 1), (4, 1), (1, 1), (7, 1), (0, 0), (2, 0)):
            word = encode_first_word(0, header_len // 8 - 1, v, 0, coffset, ioffset)
            yield refused_vector(
                f"auth/v{v:x}/offsets-c{coffset}-i{ioffset}", Reason.AUTH, group, word + sealed.packet[4:]
            )
        # Another encoding of the same padding is another header.
        if v == 8:
            packet = sealed.packet[:12] + bytes(4) + sealed.packet[16:]
            yield refused_vector("auth/other-padding", Reason.AUTH, group, packet, decision="padding_mix")

    # V that still parses: another V is another key.
    for v, other in ((0, 1), (1, 0), (1, 2), (2, 1), (8, 9), (9, 8), (9, 0xA), (0xA, 9)):
        group = make_group()
        id = sample_id(v, "v-changed")
        sealed = seal(group, v=v, id=id, epoch=1, counter=1, payload=bytes(16), src_ip=SRC4, dst_ip=DST4)
        word = encode_first_word(0, len(sealed.header) // 8 - 1, other, 0, 0, 0)
        yield refused_vector(f"auth/v{v:x}-to-v{other:x}", Reason.AUTH, group, word + sealed.packet[4:])

    # Nothing is encrypted: the ICV still counts.
    for payload_len in (0, 4, 16, 64):
        for aead in Aead:
            group = make_group(aead)
            id = sample_id(0, "empty-ciphertext")
            sealed = seal(
                group, v=0, id=id, epoch=1, counter=1, payload=bytes(payload_len), coffset=payload_len // 4
            )
            end = 8 * len(sealed.packet)
            name = f"auth/empty-ciphertext/{aead.value}/{payload_len}"
            for bit in (end - 128, end - 65, end - 1):
                yield refused_vector(f"{name}/icv-bit-{bit}", Reason.AUTH, group, flip(sealed.packet, bit))
            yield refused_vector(f"{name}/icv-zero", Reason.AUTH, group, sealed.packet[:-16] + bytes(16))
            if payload_len:
                yield refused_vector(f"{name}/payload", Reason.AUTH, group, flip(sealed.packet, 8 * len(sealed.header)))

    # The right packet for another receiver.
    group = make_group()
    payload = stream(b"payload/other", 16)
    for v, src, dst, name in (
        (0x1, DST4, DST4, "source"),
        (0x1, bytes(12) + SRC4, DST4, "source-not-mapped"),
        (0x2, DST4, DST4, "source"),
        (0x2, SRC4, SRC4, "destination"),
        (0x2, DST4, SRC4, "exchanged"),
        (0x9, SRC6, DST4, "source"),
        (0xA, SRC4, DST6, "destination"),
    ):
        id = sample_id(v, "other-address")
        packet = seal(group, v=v, id=id, epoch=1, counter=1, payload=payload, src_ip=SRC4, dst_ip=DST4).packet
        yield refused_vector(f"auth/v{v:x}/other-{name}", Reason.AUTH, group, packet, src_ip=src, dst_ip=dst)

    id = sample_id(0, "other-group")
    base = make_group(levels=LEVELS)
    others: list[tuple[str, Group, Group, Sequence[Level]]] = [
        ("aead", make_group(Aead.AES_128_GCM), make_group(Aead.AES_256_GCM), (Level.ZONE,)),
        ("aead-reverse", make_group(Aead.AES_256_GCM), make_group(Aead.AES_128_GCM), (Level.ZONE,)),
        ("combiner", make_group(combiner=Combiner.XOR), make_group(combiner=Combiner.HKDF), (Level.ZONE,)),
        ("default-levels", make_group(levels=LEVELS, default_levels=(Level.ZONE,)), base, ()),
        ("default-rotated-later", make_group(shifts=(1, 0, 0)), make_group(), ()),
        ("default-rotated-earlier", make_group(shifts=(-1, 0, 0)), make_group(), ()),
    ]
    zone = ring(Level.ZONE, 16)
    for at, generation in enumerate(Generation):
        values = [stream(b"other-value", 32) if n == at else zone.values[n] for n in range(3)]
        changed = RootKey(zone.root_key_id, zone.indices, (values[0], values[1], values[2]))
        receiver = Group(Aead.AES_256_GCM, Combiner.HKDF, {Level.ZONE: changed}, (Level.ZONE,))
        sender = make_group(shifts=(generation - 1, 0, 0))
        others.append((f"root-key-value-{generation.label}", receiver, sender, (Level.ZONE,)))
    for name, receiver, sender, options in others:
        packet = seal(sender, v=0, id=id, epoch=1, counter=1, payload=payload, options=options).packet
        yield refused_vector(f"auth/other-group/{name}", Reason.AUTH, receiver, packet)

    # An option added, removed or pointed at another generation.
    sealed = seal(base, v=0, id=id, epoch=1, counter=1, payload=payload, options=(Level.ZONE,))
    for generation in (Generation.PRE, Generation.NEXT):
        packet = bytearray(sealed.packet)
        packet[10] = base.use(Level.ZONE, generation).index
        yield refused_vector(f"auth/option-says-{generation.label}", Reason.AUTH, base, bytes(packet))
    use = base.use(Level.ZONE, Generation.CURRENT)
    added = raw_option(Level.ZONE, use.index, use.root_key_id) + b"\x01\x02\x00\x00"
    one = make_group()
    plain = seal(one, v=0, id=id, epoch=1, counter=1, payload=payload).packet
    word = encode_first_word(0, (16 + len(added)) // 8 - 1, 0, 0, 0, 0)
    yield refused_vector("auth/option-added", Reason.AUTH, one, word + plain[4:8] + added + plain[8:])
    packet = encode_first_word(0, 1, 0, 0, 0, 0) + sealed.packet[4:8] + sealed.packet[8 + len(added) :]
    yield refused_vector("auth/option-removed", Reason.AUTH, one, packet)


# --- root keys, combiners, derivation ----------------------------------------------------------------------------


def root_keys_accepted() -> Iterator[Vector]:
    def vector(name: str, key: RootKey, decision: str = "") -> Vector:
        der = encode_root_key(key)
        if decode_root_key(der) != key:
            raise AssertionError(f"{name}: does not read back")
        out: Vector = {
            "name": name,
            "der": der.hex(),
            "root_key_id": key.root_key_id.hex(),
            "indices": list(key.indices),
            "values": [value.hex() for value in key.values],
        }
        return decided(out, decision)

    for size in range(16, 33):
        yield vector(f"id-of-{size}", ring(Level.ZONE, size))
    for first in (0, 1, 125, 126, 127, 128, 253, 254, 255, 256, 32766, 32767, 65534, 2**31 - 3, 2**31 - 1, 2**32 - 3):
        yield vector(f"index-from-{first}", ring(Level.ZONE, 16, first=first))
    for first in (2**32, 2**63 - 3):
        yield vector(f"index-from-{first}", ring(Level.ZONE, 16, first=first), "index_range")
    base = ring(Level.ZONE, 16)
    pre, current, following = base.values
    yield vector("no-pre", RootKey(base.root_key_id, (8, 8, 9), (current, current, following)))
    yield vector("order-falls", RootKey(base.root_key_id, (9, 8, 7), base.values), "index_order")
    yield vector("order-wraps", RootKey(base.root_key_id, (255, 0, 1), base.values), "index_order")
    yield vector("indices-far-apart", RootKey(base.root_key_id, (1, 0x1002, 0x100003), base.values), "index_order")
    yield vector("id-all-zero", RootKey(bytes(16), base.indices, base.values))


def root_keys_refused() -> Iterator[Vector]:
    base = ring(Level.ZONE, 16)
    id_tlv = encode_tlv(TAG_OCTETS, base.root_key_id)

    def indices(*numbers: int) -> bytes:
        return encode_tlv(TAG_SEQUENCE, b"".join(encode_integer(number) for number in numbers))

    def values(*octets: bytes) -> bytes:
        return encode_tlv(TAG_SEQUENCE, b"".join(encode_tlv(TAG_OCTETS, one) for one in octets))

    def whole(id: bytes = id_tlv, index: bytes = indices(7, 8, 9), value: bytes = values(*base.values)) -> bytes:
        return encode_tlv(TAG_SEQUENCE, id + index + value)

    good = whole()
    if decode_root_key(good) != base:
        raise AssertionError("the base of the refused root keys is not good")
    pre, current, following = base.values
    raw_indices = b"".join(encode_integer(n) for n in (7, 8, 9))
    raw_values = b"".join(encode_tlv(TAG_OCTETS, one) for one in base.values)
    size = len(good) - 3
    cases: list[tuple[str, bytes, str]] = [
        ("empty", b"", ""),
        ("empty-sequence", b"\x30\x00", ""),
        ("trailing-octet", good + b"\x00", ""),
        ("trailing-element", good + b"\x05\x00", ""),
        ("twice", good + good, ""),
        ("trailing-inside", encode_tlv(TAG_SEQUENCE, good[3:] + b"\x05\x00"), ""),
        ("trailing-inside-indices", whole(index=encode_tlv(TAG_SEQUENCE, raw_indices + b"\x05\x00")), ""),
        ("trailing-inside-values", whole(value=encode_tlv(TAG_SEQUENCE, raw_values + b"\x05\x00")), ""),
        ("length-not-minimal-outer", b"\x30\x82\x00" + bytes([size]) + good[3:], ""),
        ("length-not-minimal-id", whole(id=b"\x04\x81\x10" + base.root_key_id), ""),
        ("length-not-minimal-indices", whole(index=b"\x30\x81\x09" + raw_indices), ""),
        ("length-not-minimal-values", whole(value=b"\x30\x81\x66" + raw_values), ""),
        ("length-not-minimal-value", whole(value=encode_tlv(0x30, b"\x04\x81\x20" + pre + raw_values[34:])), ""),
        ("length-not-minimal-index", whole(index=encode_tlv(0x30, b"\x02\x81\x01\x07" + raw_indices[3:])), ""),
        ("length-indefinite", b"\x30\x80" + good[3:] + b"\x00\x00", ""),
        ("length-too-long", b"\x30\x81" + bytes([size + 1]) + good[3:], ""),
        ("length-too-short", b"\x30\x81" + bytes([size - 1]) + good[3:], ""),
        ("length-huge", b"\x30\x88" + b"\xff" * 8 + good[3:], ""),
        ("tag-set", b"\x31" + good[1:], ""),
        ("tag-sequence-primitive", b"\x10" + good[1:], ""),
        ("tag-id-integer", whole(id=b"\x02" + id_tlv[1:]), ""),
        ("tag-id-constructed", whole(id=b"\x24\x12" + id_tlv), ""),
        ("tag-indices-set", whole(index=b"\x31" + indices(7, 8, 9)[1:]), ""),
        ("tag-index-enumerated", whole(index=encode_tlv(0x30, b"\x0a" + raw_indices[1:])), ""),
        ("tag-index-octets", whole(index=encode_tlv(0x30, b"\x04" + raw_indices[1:])), ""),
        ("tag-values-set", whole(value=b"\x31" + values(*base.values)[1:]), ""),
        ("tag-value-bit-string", whole(value=encode_tlv(0x30, b"\x03" + raw_values[1:])), ""),
        ("integer-not-minimal-00", whole(index=encode_tlv(0x30, b"\x02\x02\x00\x07" + raw_indices[3:])), ""),
        ("integer-not-minimal-ff", whole(index=encode_tlv(0x30, b"\x02\x02\xff\x87" + raw_indices[3:])), ""),
        ("integer-not-minimal-00-00-80", whole(index=encode_tlv(0x30, b"\x02\x03\x00\x00\x80" + raw_indices[3:])), ""),
        ("integer-empty", whole(index=encode_tlv(0x30, b"\x02\x00" + raw_indices[3:])), ""),
        ("index-negative", whole(index=indices(-1, 8, 9)), ""),
        ("index-negative-current", whole(index=indices(7, -128, 9)), ""),
        ("index-negative-next", whole(index=indices(7, 8, -247)), ""),
        ("index-2-63", whole(index=indices(2**63, 8, 9)), "index_range"),
        ("index-2-64", whole(index=indices(2**64 + 1, 8, 9)), "index_range"),
        ("index-2-128", whole(index=indices(7, 8, 2**128 + 9)), "index_range"),
        ("indices-none", whole(index=indices()), ""),
        ("indices-one", whole(index=indices(7)), ""),
        ("indices-two", whole(index=indices(7, 8)), ""),
        ("indices-four", whole(index=indices(7, 8, 9, 10)), ""),
        ("values-none", whole(value=values()), ""),
        ("values-two", whole(value=values(pre, current)), ""),
        ("values-four", whole(value=values(pre, current, following, bytes(range(32)))), ""),
        ("no-id", encode_tlv(0x30, indices(7, 8, 9) + values(*base.values)), ""),
        ("no-indices", encode_tlv(0x30, id_tlv + values(*base.values)), ""),
        ("no-values", encode_tlv(0x30, id_tlv + indices(7, 8, 9)), ""),
        ("values-before-indices", encode_tlv(0x30, id_tlv + values(*base.values) + indices(7, 8, 9)), ""),
        ("equal-mod-256-pre-current", whole(index=indices(8, 8 + 256, 9)), ""),
        ("equal-mod-256-pre-next", whole(index=indices(9 + 256, 8, 9)), ""),
        ("equal-mod-256-current-next", whole(index=indices(7, 8, 8 + 512)), ""),
        ("equal-pre-current", whole(index=indices(8, 8, 9)), ""),
        ("equal-pre-next", whole(index=indices(9, 8, 9)), ""),
        ("equal-current-next", whole(index=indices(7, 8, 8)), ""),
        ("equal-all", whole(index=indices(8, 8, 8)), ""),
        (
            "same-value-but-index-256-apart",
            whole(index=indices(8, 264, 9), value=values(current, current, following)),
            "repeated_pre",
        ),
        ("repeated-next", whole(index=indices(7, 8, 8), value=values(pre, current, current)), "repeated_pre"),
        ("repeated-three-times", whole(index=indices(8, 8, 8), value=values(pre, pre, pre)), "repeated_pre"),
    ]
    for octets in (0, 1, 15, 33, 64):
        cases.append((f"id-of-{octets}", whole(id=encode_tlv(TAG_OCTETS, stream(b"some-id", octets))), ""))
    for octets in (0, 16, 31, 33, 64):
        wrong = stream(b"some-value", octets)
        cases.append((f"value-of-{octets}-pre", whole(value=values(wrong, current, following)), ""))
        cases.append((f"value-of-{octets}-current", whole(value=values(pre, wrong, following)), ""))
        cases.append((f"value-of-{octets}-next", whole(value=values(pre, current, wrong)), ""))
    cases.extend((f"cut-at-{n}", good[:n], "") for n in range(1, len(good)))
    for name, der, decision in cases:
        try:
            decode_root_key(der)
        except RootKeyError:
            pass
        else:
            raise AssertionError(f"root key {name}: accepted")
        yield decided({"name": name, "der": der.hex()}, decision)


def xor_refused() -> Iterator[Vector]:
    """Groups whose current root keys of the named levels must not be combined by xor."""
    one, two = stream(b"xor/1", 32), stream(b"xor/2", 32)
    both = bytes(a ^ b for a, b in zip(one, two))
    zero = bytes(32)
    zone, user, task = LEVELS
    cases: list[tuple[str, str, dict[Level, bytes]]] = [
        ("equal-zone-user", "equal", {zone: one, user: one}),
        ("equal-zone-task", "equal", {zone: one, task: one}),
        ("equal-user-task", "equal", {user: one, task: one}),
        ("equal-zone-user-of-three", "equal", {zone: one, user: one, task: two}),
        ("equal-zone-task-of-three", "equal", {zone: one, user: two, task: one}),
        ("equal-user-task-of-three", "equal", {zone: two, user: one, task: one}),
        ("equal-all-three", "equal", {zone: one, user: one, task: one}),
        ("zero-of-three", "zero", {zone: one, user: two, task: both}),
        ("zero-of-three-again", "zero", {zone: both, user: one, task: two}),
        ("zero-alone-zone", "zero", {zone: zero}),
        ("zero-alone-task", "zero", {task: zero}),
    ]
    for name, reason, current in cases:
        rings = {}
        for level, value in current.items():
            base = ring(level, 16)
            rings[level] = RootKey(base.root_key_id, base.indices, (base.values[0], value, base.values[2]))
        group = Group(Aead.AES_256_GCM, Combiner.XOR, rings, tuple(rings))
        try:
            combine(Combiner.XOR, [group.use(level, Generation.CURRENT) for level in rings])
        except CombineError as error:
            if error.reason != reason:
                raise AssertionError(f"xor {name}: {error}") from error
        else:
            raise AssertionError(f"xor {name}: accepted")
        yield {"name": name, "reason": reason, "group": group_json(group), "levels": [level.label for level in rings]}


def derive() -> Iterator[Vector]:
    """Context to data key alone."""
    addresses = [(SRC4, DST4), (SRC6, DST6), (bytes(16), b"\xff" * 16)]
    number = 0
    for v, bits, (src_ip, dst_ip), epoch in itertools.product(V_VALUES, (128, 256), addresses, (0, 0x1234, 65535)):
        if v & 7 == 0 and src_ip != SRC4:
            continue
        number += 1
        master = stream(f"master/{number}".encode(), 32)
        id = sample_id(v, f"derive/{number}")
        src, dst = src_ip if v & 7 else b"", dst_ip if v & 7 == 2 else b""
        inputs = kdf_inputs(v, id, epoch, src, dst, bits)
        yield {
            "name": f"derive/{number}",
            "master_key": master.hex(),
            "key_bits": bits,
            "v": v,
            "id": id.hex(),
            "epoch": epoch,
            "src_ip": src.hex(),
            "dst_ip": dst.hex(),
            "kdf_inputs": [block.hex() for block in inputs],
            "data_key": counter_mode(master, inputs).hex(),
        }


# --- all of them -------------------------------------------------------------------------------------------------


def build() -> Sections:
    """All vectors of the profile, by section."""
    sections: Sections = {
        "seal": [
            *seal_matrix(),
            *seal_offsets(),
            *seal_lengths(),
            *seal_extremes(),
            *seal_addresses(),
            *seal_generations(),
            *seal_equal_values(),
        ],
        "accepted": list(accepted()),
        "refused": [
            *refused_first_word(),
            *refused_header_len(),
            *refused_truncated(),
            *refused_options(),
            *refused_no_key(),
            *refused_reflected(),
            *refused_auth(),
        ],
        "root_keys_accepted": list(root_keys_accepted()),
        "root_keys_refused": list(root_keys_refused()),
        "xor_refused": list(xor_refused()),
        "derive": list(derive()),
    }
    by_name = {vector["name"]: vector for vector in sections["seal"]}
    for vector in sections["seal"]:
        twin = vector.get("same_data_key_as")
        if twin and by_name[twin]["data_key"] != vector["data_key"]:
            raise AssertionError(f"{vector['name']}: the data key differs from that of {twin}")
    return sections
