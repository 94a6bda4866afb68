"""The vectors of profile `eesp`."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from common.packet import seal_octets
from eesp import Aead, CryptOffset, Encap, Reason, Sa, Sskdf, derive, encode_text, open_packet, seal
from eesp.options import FLOW_IDENTIFIER, encode_padding
from eesp.packet import nonce

from .vectors import Sections, Vector, check_refused, decided, flip, output_fields, payload_fields, stream

SPI = 0x0A1B2C3D
NEXT_UDP, NEXT_IPV4, NEXT_IPV6, NO_NEXT = 17, 4, 41, 59
MAX_SEQUENCE = 2**64 - 1
SSKDFS = [sskdf for sskdf in Sskdf if sskdf is not Sskdf.NONE]
# Sequence number and IV of the peer header.
PEERS = ((True, False), (False, True), (True, True))


def peer_label(seq: bool, iv: bool) -> str:
    return "+".join([name for name, there in (("seq", seq), ("iv", iv)) if there])


def make_sa(
    sskdf: Sskdf = Sskdf.HKDF_SHA2_256,
    aead: Aead = Aead.AES_256_GCM,
    *,
    tag: str = "main",
    spi: int = SPI,
    seq: bool = True,
    iv: bool = False,
    full: bool = True,
    max_coffset: int = 0,
    align8: bool = False,
    sub_sas: int = 16,
    encap: Encap | None = None,
) -> Sa:
    """An SA; `tag` and its SPI name its root key: two SAs never have one.

    With an encapsulation mode it is of draft -03, where the mode says what `full` is, else of -02.
    """
    root = stream(f"eesp/root/{tag}/{spi:08x}".encode(), sskdf.root_len(aead))
    draft = 2
    if encap is not None:
        draft, full = 3, encap is not Encap.TUNNEL or max_coffset > 0
    return Sa(spi, sskdf, aead, root, seq, iv, full, max_coffset, align8, sub_sas, draft, encap)


def sa_json(sa: Sa) -> Vector:
    return {
        "sskdf": int(sa.sskdf),
        "aead": sa.aead.value,
        "root": sa.root.hex(),
        "spi": sa.spi,
        "seq": sa.seq,
        "iv": sa.iv,
        "full": sa.full,
        "max_coffset": sa.max_coffset,
        "align8": sa.align8,
        "sub_sas": sa.sub_sas,
        "draft": sa.draft,
        "encap": sa.encap.value if sa.encap is not None else "",
    }


def ipv4(size: int, seed: bytes = b"eesp/ipv4") -> bytes:
    """An IPv4 packet of `size` octets that carries UDP in name; its header checksum is not filled in."""
    header = b"\x45\x00" + size.to_bytes(2, "big") + bytes.fromhex("1c46400040110000c0000201c6336407")
    return header + stream(seed, size - len(header))


def ipv6(size: int, seed: bytes = b"eesp/ipv6", next_header: int = NEXT_UDP) -> bytes:
    """An IPv6 packet of `size` octets that carries UDP in name."""
    header = bytes.fromhex("600b1234") + (size - 40).to_bytes(2, "big") + bytes([next_header, 64])
    header += bytes.fromhex("20010db8000000000000000000000001" "20010db8ffff00ff0123456789abcdef")
    return header + stream(seed, size - len(header))


# --- seal vectors ------------------------------------------------------------------------------------------------


def seal_vector(
    name: str,
    sa: Sa,
    *,
    payload: bytes | None = None,
    payload_len: int = 0,
    session: int = 0,
    sequence: int = 1,
    coffset: int = 0,
    flow_id: bytes = b"",
    next_header: int = NEXT_UDP,
) -> Vector:
    """A packet that is sealed, and opens to what was sealed. Without a payload, it is a stream of payload_len."""
    seed = b"eesp/payload/" + name.encode()
    if payload is None:
        payload = stream(seed, payload_len)
    number = next_header if sa.full else 0
    sealed = seal(
        sa,
        session=session,
        sequence=sequence,
        payload=payload,
        next_header=number,
        coffset=coffset,
        flow_id=flow_id,
    )
    packet = sealed.sealed.packet
    opened = open_packet(sa, packet)
    header = opened.header
    if (opened.text.payload, opened.text.next_header or 0, header.coffset, header.session, header.nonce_number) != (
        payload,
        number,
        coffset,
        session,
        sequence,
    ):
        raise AssertionError(f"{name}: the packet does not open to what was sealed")
    if sa.align8 and (header.size + sa.info_len) % 8 or len(packet) % 4:
        raise AssertionError(f"{name}: the payload or the ICV is not aligned")
    return {
        "name": name,
        **sa_json(sa),
        "session": session,
        "flow_id": flow_id.hex(),
        "sequence": sequence,
        "coffset": coffset,
        "next_header": number,
        **payload_fields(seed, payload),
        "text": sealed.text.hex(),
        **output_fields(sealed.sealed),
    }


def seal_matrix() -> Iterator[Vector]:
    """Every SSKDF, AEAD, peer header and format; options, alignment, offsets and lengths in step."""
    shapes = itertools.cycle(
        [
            # payload length, maximum and crypt offset, 8-octet alignment, octets of the Flow Identifier
            (0, 0, 0, False, 0),
            (1, 63, 0, True, 0),
            (15, 8, 4, False, 4),
            (16, 0, 0, True, 0),
            (17, 16, 5, True, 5),
            (32, 0, 0, False, 6),
            (33, 63, 9, False, 0),
            (40, 1, 1, True, 13),
            (64, 0, 0, True, 8),
            (99, 20, 10, True, 2),
            (128, 63, 33, False, 1),
        ]
    )
    inner = itertools.cycle([ipv4(20), ipv6(40), ipv4(21), ipv6(43), ipv4(84), ipv6(102), ipv4(127)])
    next_headers = itertools.cycle([4, 41, 6, 17, 58])
    number = 0
    for sskdf, aead, (seq, iv), full, n in itertools.product(SSKDFS, Aead, PEERS, (True, False), range(4)):
        number += 1
        payload_len, max_coffset, coffset, align8, flow = next(shapes)
        if not full:
            max_coffset = coffset = 0
        sa = make_sa(
            sskdf,
            aead,
            spi=number * 0x9E3779B1 % 2**32,
            seq=seq,
            iv=iv,
            full=full,
            max_coffset=max_coffset,
            align8=align8,
            sub_sas=number * 331 % 65536 + 1,
        )
        kind = f"{int(sskdf)}/{aead.value}/{peer_label(seq, iv)}/{'full' if full else 'optimized'}"
        yield seal_vector(
            f"matrix/{kind}/{n}",
            sa,
            payload=None if full else next(inner),
            payload_len=payload_len,
            session=number * 7919 % sa.sub_sas,
            sequence=1 + number * 0x9E3779B97F4A7C15 % 2**63,
            coffset=coffset,
            flow_id=stream(f"eesp/flow/{number}".encode(), flow),
            next_header=next(next_headers),
        )


def seal_options() -> Iterator[Vector]:
    """Flow Identifiers of every length up to a few words, and the longest; with and without the other options."""
    number = 0
    for (seq, iv), max_coffset, align8 in itertools.product(PEERS, (0, 8), (False, True)):
        kind = f"{peer_label(seq, iv)}/{'crypt-offset' if max_coffset else 'no-crypt-offset'}"
        kind += "/align8" if align8 else "/align4"
        # Crypt Offset's Payload Offset ends at 252 octets, Opt Len at 252 octets of options.
        longest = 222 if max_coffset else 246
        for size in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 31, 100, longest):
            number += 1
            sa = make_sa(tag="options", seq=seq, iv=iv, max_coffset=max_coffset, align8=align8, sub_sas=256)
            yield seal_vector(
                f"option/{kind}/flow-{size}",
                sa,
                session=number % 256,
                sequence=number,
                payload_len=number % 23,
                flow_id=stream(b"eesp/flow", size),
                coffset=min(max_coffset, 1 + number % 23 // 4),
            )
    for align8, (seq, iv), inner in itertools.product((False, True), PEERS, (ipv4(33), ipv6(50))):
        number += 1
        sa = make_sa(tag="options-optimized", seq=seq, iv=iv, full=False, align8=align8, sub_sas=256)
        kind = f"optimized/{peer_label(seq, iv)}/{'align8' if align8 else 'align4'}/ipv{inner[0] >> 4}"
        for size in (0, 1, 2, 5, 6, 9, 10):
            yield seal_vector(
                f"option/{kind}/flow-{size}",
                sa,
                sequence=number * 16 + size,
                payload=inner,
                flow_id=stream(b"eesp/flow", size),
            )


def seal_offsets() -> Iterator[Vector]:
    for n, max_coffset in enumerate((1, 2, 7, 8, 63)):
        sa = make_sa(tag=f"offsets/{max_coffset}", aead=list(Aead)[n % 2], max_coffset=max_coffset)
        wanted = {0, 1, 2, 3, 4, 5, 8, 15, 16, 31, 32, 62, max_coffset}
        for coffset in sorted(one for one in wanted if one <= max_coffset):
            # The shortest payload that reaches it, some octets more, and a long one.
            for payload_len in sorted({max(0, 4 * coffset - 4), 4 * coffset, 4 * coffset + 3, 300}):
                yield seal_vector(
                    f"offset/max{max_coffset}/c{coffset}-of-{payload_len}",
                    sa,
                    session=max_coffset % 16,
                    sequence=1000 * coffset + payload_len + 1,
                    payload_len=payload_len,
                    coffset=coffset,
                )
    # Figure 20 of the draft: sequence number and IV, IPv4 and UDP in tunnel mode, 32 octets in clear.
    yield seal_vector(
        "offset/figure-20",
        make_sa(tag="figure-20", iv=True, max_coffset=8),
        payload=ipv4(128),
        sequence=0x0102030405060708,
        coffset=8,
        next_header=NEXT_IPV4,
    )


def seal_lengths() -> Iterator[Vector]:
    sizes = (*range(21), 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 199, 200, 201, 255, 256, 257, 1420)
    for aead in Aead:
        sa = make_sa(tag="lengths", aead=aead)
        for size in sizes:
            yield seal_vector(f"length/full/{aead.value}/{size}", sa, sequence=size + 1, payload_len=size)
        yield seal_vector(f"length/full/{aead.value}/9000", sa, sequence=9001, payload_len=9000)
        sa = make_sa(tag="lengths-optimized", aead=aead, full=False, iv=True)
        for make, least in ((ipv4, 20), (ipv6, 40)):
            version = 4 if make is ipv4 else 6
            for size in (*range(least, least + 9), 127, 128, 255, 256, 257, 1420):
                yield seal_vector(
                    f"length/optimized/{aead.value}/ipv{version}-{size}",
                    sa,
                    sequence=version * 10000 + size,
                    payload=make(size),
                )


def seal_extremes() -> Iterator[Vector]:
    for seq, iv in PEERS:
        kind = peer_label(seq, iv)
        sa = make_sa(tag=f"extreme/{kind}", seq=seq, iv=iv)
        for sequence in (1, 2, 2**32 - 1, 2**32, 2**48, 2**63 - 1, 2**63, MAX_SEQUENCE - 1, MAX_SEQUENCE):
            yield seal_vector(f"extreme/{kind}/sequence-{sequence:016x}", sa, sequence=sequence, payload_len=12)
    for sskdf, aead in itertools.product(SSKDFS, Aead):
        kind = f"{int(sskdf)}/{aead.value}"
        for sub_sas, session in ((1, 0), (2, 1), (256, 255), (257, 256), (65535, 65534), (65536, 0), (65536, 65535)):
            sa = make_sa(sskdf, aead, tag="sessions", sub_sas=sub_sas)
            name = f"extreme/{kind}/session-{session}-of-{sub_sas}"
            yield seal_vector(name, sa, session=session, sequence=sub_sas, payload_len=12)
    for spi in (1, 255, 256, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        yield seal_vector(f"extreme/spi-{spi:08x}", make_sa(tag="spi", spi=spi), sequence=spi, payload_len=12)
    for next_header in (0, 1, 127, 128, 255):
        yield seal_vector(
            f"extreme/next-header-{next_header}",
            make_sa(tag="next-header"),
            sequence=next_header + 1,
            next_header=next_header,
            payload_len=12,
        )


# --- raw packets -------------------------------------------------------------------------------------------------


def forge(
    sa: Sa,
    text: bytes,
    *,
    first: int = 0x80,
    opt_len: int | None = None,
    options: bytes = b"",
    session: int = 0,
    spi: int | None = None,
    sequence: int = 9,
    iv: int | None = None,
    coffset: int = 0,
) -> bytes:
    """A packet from raw fields, whatever sense they make, with the ICV that is right for them.

    `iv` is the sequence number by default; `coffset` says what is in clear, whatever the options say.
    """
    number = sequence if iv is None else iv
    base = bytes([first, len(options) if opt_len is None else opt_len]) + session.to_bytes(2, "big")
    base += (sa.spi if spi is None else spi).to_bytes(4, "big")
    peer = (sequence.to_bytes(8, "big") if sa.seq else b"") + (number.to_bytes(8, "big") if sa.iv else b"")
    header = base + options + peer
    key = derive(sa.sskdf, sa.root, session, sa.aead)
    clear = len(header) + min(4 * coffset, len(text))
    return seal_octets(key, nonce(key, number if sa.iv else sequence), header + text, clear).packet


def crypt_offset(sa: Sa, coffset: int, opt_len: int = 4, *, wrong: int = 0, r: int = 0, f: int = 0) -> bytes:
    """A Crypt Offset option for options of `opt_len` octets, its Payload Offset `wrong` units off."""
    return CryptOffset((8 + opt_len + sa.peer_len) // 4 + wrong, coffset, r, f).encode()


# The SAs that faults are tried on: as the first field is where they differ, the name says all of it.
SAMPLES: dict[str, Sa] = {
    "full-seq": make_sa(),
    "full-iv": make_sa(aead=Aead.AES_128_GCM, seq=False, iv=True),
    "full-seq+iv-crypt-offset": make_sa(Sskdf.HKDF_SHA2_384, iv=True, max_coffset=63),
    "optimized-seq": make_sa(Sskdf.HKDF_SHA2_512, Aead.AES_128_GCM, full=False),
    "optimized-seq+iv": make_sa(Sskdf.AES256_CMAC, full=False, iv=True),
}


def sample_text(sa: Sa, size: int = 30) -> bytes:
    """A text that is good for an SA."""
    if sa.full and sa.tunnel:
        return encode_text(True, NEXT_IPV4, ipv4(max(20, size)), tunnel=True)
    if sa.full:
        return encode_text(True, NEXT_UDP, stream(b"eesp/payload/sample", size))
    return encode_text(False, 0, ipv4(max(20, size)))


# --- packets that open though this implementation would not send them --------------------------------------------


def accepted_vector(name: str, sa: Sa, packet: bytes, *, decision: str = "") -> Vector:
    opened = open_packet(sa, packet)
    vector: Vector = {
        "name": name,
        **sa_json(sa),
        "packet": packet.hex(),
        "payload": opened.text.payload.hex(),
        "session": opened.header.session,
        "sequence": opened.header.nonce_number if opened.header.sequence is None else opened.header.sequence,
        "coffset": opened.header.coffset,
        "next_header": opened.text.next_header or 0,
        "flow_id": (opened.header.options.flow_id or b"").hex(),
    }
    return decided(vector, decision)


def accepted_options() -> Iterator[Vector]:
    areas = {
        "pad1": "00000000",
        "pad1-pad1-padn": "00000100",
        "padn-pad1-pad1": "01000000",
        "padn-padn": "01000100",
        "padn1-pad1": "01010000",
        "pad1-padn1": "00010100",
        "padn-of-8": "0106000000000000",
        "flow-empty": "03000100",
        "flow-1": "0301aa00",
        "flow-2": "0302aabb",
        "flow-after-padding": "000000000302aabb",
        "flow-behind-padn": "010200000302aabb",
        "flow-between-padding": "00000301aa000000",
        "flow-like-options": "0306030202020000",
        "private-224": "e0000100",
        "private-255": "ff020001",
        "private-twice": "e002aaaae002aaaa",
        "private-and-flow": "e101770003020001",
        "private-several": "e0000000f0040102030400fe01ee0000",
    }
    for label, sa in SAMPLES.items():
        for name, octets in areas.items():
            area = bytes.fromhex(octets)
            yield accepted_vector(f"option/{label}/{name}", sa, forge(sa, sample_text(sa), options=area))
        for name, area in (
            ("padding-252-pad1", bytes(252)),
            ("padding-252-padn", encode_padding(252)),
            ("private-of-250", b"\xe7\xfa" + b"\xee" * 250),
            ("flow-of-250", bytes([FLOW_IDENTIFIER, 250]) + b"\xff" * 250),
        ):
            yield accepted_vector(f"option/{label}/{name}", sa, forge(sa, sample_text(sa), options=area))
    for kind in range(224, 256):
        sa = SAMPLES["full-seq"]
        packet = forge(sa, sample_text(sa), options=bytes([kind, 2, kind, 0]))
        yield accepted_vector(f"option/private/{kind}", sa, packet)


def accepted_crypt_offsets() -> Iterator[Vector]:
    sa = SAMPLES["full-seq+iv-crypt-offset"]
    for r, f in itertools.product(range(4), range(4)):
        packet = forge(sa, sample_text(sa), options=crypt_offset(sa, 3, r=r, f=f), coffset=3)
        yield accepted_vector(f"crypt-offset/r{r}-f{f}", sa, packet)
    for name, before, after in (
        ("after-padding", "00000000", ""),
        ("after-flow", "0302aabb", ""),
        ("before-private", "", "e0020102"),
        ("between", "e00000", "030133000000000000"),
        ("odd-place", "00", "010100"),
    ):
        size = len(before + after) // 2 + 4
        area = bytes.fromhex(before) + crypt_offset(sa, 2, size) + bytes.fromhex(after)
        yield accepted_vector(f"crypt-offset/{name}", sa, forge(sa, sample_text(sa), options=area, coffset=2))
    yield accepted_vector("crypt-offset/not-there", sa, forge(sa, sample_text(sa)))
    # As far as the text goes, its padding included.
    for size in (0, 1, 5, 30, 248):
        text = sample_text(sa, size)
        reach = len(text) // 4
        packet = forge(sa, text, options=crypt_offset(sa, reach), coffset=reach)
        yield accepted_vector(f"crypt-offset/whole-text-of-{len(text)}", sa, packet)


def accepted_numbers() -> Iterator[Vector]:
    for label, sa in SAMPLES.items():
        text = sample_text(sa)
        for session in (0, 1, 15):
            yield accepted_vector(f"session/{label}/{session}", sa, forge(sa, text, session=session))
        for sequence in (1, 2**32, 2**63, MAX_SEQUENCE):
            yield accepted_vector(f"sequence/{label}/{sequence:016x}", sa, forge(sa, text, sequence=sequence))
        if sa.iv:
            # The IV need not be the sequence number; where there is none, it may be 0.
            for iv in (0, 1, 2**63, MAX_SEQUENCE):
                decision = "iv_zero" if not iv else ""
                packet = forge(sa, text, iv=iv)
                yield accepted_vector(f"iv/{label}/{iv:016x}", sa, packet, decision=decision)


def accepted_texts() -> Iterator[Vector]:
    payload = stream(b"eesp/payload/accepted", 20)
    for label, sa in SAMPLES.items():
        if sa.full:
            for padding in (0, 1, 3, 4, 5, 8, 16, 17, 254, 255):
                # Also where the text is no multiple of 4 octets.
                text = bytes([0, 0, NEXT_UDP, padding]) + payload + bytes(padding)
                decision = "unaligned_text" if len(text) % 4 else ""
                packet = forge(sa, text)
                yield accepted_vector(f"padding/{label}/{padding}", sa, packet, decision=decision)
            text = bytes([0, 0, NEXT_UDP, 4]) + payload + b"\x01\xff\x00\x80"
            yield accepted_vector(f"padding/{label}/not-zero", sa, forge(sa, text))
            text = bytes([0, 0, NEXT_UDP, 20]) + bytes(20)
            yield accepted_vector(f"padding/{label}/nothing-else", sa, forge(sa, text))
            continue
        for inner in (ipv4(20), ipv4(33), ipv6(40, next_header=NO_NEXT), ipv6(57)):
            name = f"ipv{inner[0] >> 4}-{len(inner)}"
            for padding in (0, 1, 3, 4, 8, 16, 254, 255):
                decision = "unaligned_text" if (len(inner) + padding) % 4 else ""
                packet = forge(sa, inner + bytes(padding))
                yield accepted_vector(f"padding/{label}/{name}-and-{padding}", sa, packet, decision=decision)
            packet = forge(sa, inner + b"\xff" * (4 + -len(inner) % 4))
            yield accepted_vector(f"padding/{label}/{name}-not-zero", sa, packet)


# --- refused packets ---------------------------------------------------------------------------------------------


def refused_vector(name: str, reason: Reason, sa: Sa, packet: bytes, *, decision: str = "") -> Vector:
    """A packet that must be refused; the reason is stated by the caller and checked here."""
    check_refused(name, reason, lambda: open_packet(sa, packet))
    vector: Vector = {"name": name, "reason": reason.value, **sa_json(sa), "packet": packet.hex()}
    return decided(vector, decision)


def refused_base() -> Iterator[Vector]:
    for label, sa in SAMPLES.items():
        text = sample_text(sa)
        yield refused_vector(f"version/{label}/top-bit", Reason.VERSION, sa, forge(sa, text, first=0x00))
        for version in range(1, 16):
            packet = forge(sa, text, first=0x80 | version << 3)
            yield refused_vector(f"version/{label}/{version}", Reason.VERSION, sa, packet)
        for reserved in range(1, 8):
            packet = forge(sa, text, first=0x80 | reserved)
            yield refused_vector(f"reserved/{label}/{reserved}", Reason.RESERVED, sa, packet)
        for bit in range(32):
            packet = forge(sa, text, spi=sa.spi ^ 1 << bit)
            yield refused_vector(f"no_key/{label}/spi-bit-{bit}", Reason.NO_KEY, sa, packet)
        for size in (1, 2, 3, 5, 6, 7, 9, 14, 31, 33, 127, 251, 253, 254, 255):
            packet = forge(sa, text, options=encode_padding(size))
            yield refused_vector(f"header_len/{label}/{size}", Reason.HEADER_LEN, sa, packet)
        if sa.seq:
            packet = forge(sa, text, sequence=0)
            yield refused_vector(f"sequence/{label}/0", Reason.SEQUENCE, sa, packet)
            packet = forge(sa, text, sequence=0, session=15)
            yield refused_vector(f"sequence/{label}/0-of-another-sub-sa", Reason.SEQUENCE, sa, packet)
        if sa.seq and sa.iv:
            packet = forge(sa, text, sequence=0, iv=7)
            yield refused_vector(f"sequence/{label}/0-but-an-iv", Reason.SEQUENCE, sa, packet)
        for sub_sas, session in (
            (1, 1),
            (1, 0x0100),
            (1, 65535),
            (2, 2),
            (16, 16),
            (16, 17),
            (255, 255),
            (256, 256),
            (257, 257),
            (32768, 32768),
            (65535, 65535),
        ):
            some = replace(sa, sub_sas=sub_sas)
            packet = forge(some, text, session=session)
            yield refused_vector(f"session/{label}/{session}-of-{sub_sas}", Reason.SESSION, some, packet)


def refused_short() -> Iterator[Vector]:
    for label, sa in SAMPLES.items():
        # Cut short: a packet without options, and one with.
        flow = b"\x03\x06\x01\x02\x03\x04\x05\x06"
        options = crypt_offset(sa, 3, 12) + flow if sa.max_coffset else flow
        coffset = 3 if sa.max_coffset else 0
        for name, area, clear in (("plain", b"", 0), ("options", options, coffset)):
            packet = forge(sa, sample_text(sa, 10), options=area, coffset=clear)
            least = 8 + sa.peer_len + sa.info_len + 16
            for size in range(len(packet)):
                left = size - 8 - len(area) - sa.peer_len - 16
                if size < least + len(area):
                    reason = Reason.SHORT
                elif left < 4 * clear:
                    reason = Reason.OFFSET
                else:
                    reason = Reason.AUTH
                yield refused_vector(f"truncated/{label}/{name}/{size}", reason, sa, packet[:size])
            yield refused_vector(f"extended/{label}/{name}", Reason.AUTH, sa, packet + b"\x00")
        # Opt Len goes beyond the packet, by a word or by much; the ICV is right for what is there.
        for opt_len, there in ((4, 0), (8, 4), (16, 12), (128, 4), (252, 0), (252, 248)):
            packet = forge(sa, bytes(sa.info_len), opt_len=opt_len, options=encode_padding(there))
            yield refused_vector(f"short/{label}/opt-len-{opt_len}-there-{there}", Reason.SHORT, sa, packet)
        if sa.full:
            for size in range(4):
                for area in (b"", encode_padding(8)):
                    packet = forge(sa, bytes(size), options=area)
                    name = f"short/{label}/info-{size}-opt-len-{len(area)}"
                    yield refused_vector(name, Reason.SHORT, sa, packet)


def refused_options() -> Iterator[Vector]:
    areas = {
        "duplicate-flow": "0302aabb0302aabb",
        "duplicate-flow-other": "0302aabb0302ccdd",
        "duplicate-flow-empty": "03000300",
        "duplicate-flow-empty-first": "030000000302aabb",
        "beyond-pad1-padn": "00000001",
        "beyond-padn": "01030000",
        "beyond-padn-255": "01ff0000",
        "beyond-flow": "0303aabb",
        "beyond-flow-255": "03ffaabb",
        "beyond-flow-second": "000000000303aabb",
        "beyond-private": "e0030000",
        "beyond-private-255": "ffff0000",
        "no-length-flow": "00000003",
        "no-length-private": "000000e0",
        "no-length-crypt-offset": "00000002",
        "padn-not-zero-first": "01028000",
        "padn-not-zero-last": "01020001",
        "padn-not-zero-1": "01010100",
        "padn-not-zero-long": "0106000000000001",
        "padn-not-zero-second": "010200000102ff00",
        "unknown-after-flow": "0302aabb04020000",
        "unknown-no-data": "04000000",
        "unknown-last-octet": "00000004",
    }
    for label, sa in SAMPLES.items():
        text = sample_text(sa)
        for name, octets in areas.items():
            packet = forge(sa, text, options=bytes.fromhex(octets))
            yield refused_vector(f"option/{label}/{name}", Reason.OPTION, sa, packet)
        for kind in (4, 5, 8, 16, 127, 128, 192, 222, 223):
            packet = forge(sa, text, options=bytes([kind, 2, 0, 0]))
            yield refused_vector(f"option/{label}/unknown-{kind}", Reason.OPTION, sa, packet)
    sa = SAMPLES["full-seq+iv-crypt-offset"]
    text = sample_text(sa)
    for kind in range(4, 224):
        packet = forge(sa, text, options=bytes([kind, 2, 0, 0]))
        yield refused_vector(f"option/unknown/{kind}", Reason.OPTION, sa, packet)
    for name, area in (
        ("duplicate", crypt_offset(sa, 3, 8) * 2),
        ("duplicate-other", crypt_offset(sa, 3, 8) + crypt_offset(sa, 4, 8)),
        ("duplicate-apart", crypt_offset(sa, 3, 12) + b"\x03\x02\xaa\xbb" + crypt_offset(sa, 3, 12)),
        ("length-0", b"\x02\x00\x01\x00"),
        ("length-1", b"\x02\x01\x1c\x00"),
        ("length-3", b"\x02\x03" + crypt_offset(sa, 3, 8)[2:] + b"\x00\x01\x01\x00"),
        ("length-4", b"\x02\x04" + crypt_offset(sa, 3, 8)[2:] + b"\x00\x00\x01\x00"),
        ("length-4-as-if-with-its-head", b"\x02\x04" + crypt_offset(sa, 3)[2:]),
        ("length-6", b"\x02\x06" + crypt_offset(sa, 3, 8)[2:] + bytes(4)),
        ("beyond", b"\x00" + crypt_offset(sa, 3)[:3]),
        ("beyond-255", b"\x02\xff" + crypt_offset(sa, 3)[2:]),
    ):
        for coffset in (0, 3):
            packet = forge(sa, text, options=area, coffset=coffset)
            yield refused_vector(f"option/crypt-offset/{name}/clear-{coffset}", Reason.OPTION, sa, packet)


def refused_offsets() -> Iterator[Vector]:
    for seq, iv in PEERS:
        kind = peer_label(seq, iv)
        for max_coffset in (1, 8, 62):
            sa = make_sa(seq=seq, iv=iv, max_coffset=max_coffset)
            text = sample_text(sa, 260)
            for coffset in sorted({max_coffset + 1, 63}):
                packet = forge(sa, text, options=crypt_offset(sa, coffset), coffset=coffset)
                yield refused_vector(f"offset/{kind}/{coffset}-max-{max_coffset}", Reason.OFFSET, sa, packet)
        sa = make_sa(seq=seq, iv=iv, max_coffset=63)
        for size in (0, 1, 5, 30, 244):
            text = sample_text(sa, size)
            reach = len(text) // 4
            for coffset in sorted({reach + 1, reach + 2, 63}):
                if reach < coffset <= 63:
                    packet = forge(sa, text, options=crypt_offset(sa, coffset), coffset=coffset)
                    yield refused_vector(f"offset/{kind}/{coffset}-of-{len(text)}", Reason.OFFSET, sa, packet)
        text = sample_text(sa)
        right = (8 + 4 + sa.peer_len) // 4
        for payload_offset in sorted({0, 1, 2, 3, right - 2, right - 1, right + 1, right + 2, 31, 62, 63} - {right}):
            for coffset in (0, 3):
                area = CryptOffset(payload_offset, coffset).encode()
                packet = forge(sa, text, options=area, coffset=coffset)
                name = f"offset/{kind}/payload-offset-{payload_offset}-c{coffset}"
                yield refused_vector(name, Reason.OFFSET, sa, packet)
        # The header is longer than Payload Offset can say: 63 is too little, and so is what is left of it in six bits.
        size = 252
        exact = (8 + size + sa.peer_len) // 4
        for payload_offset in (63, exact - 64):
            area = CryptOffset(payload_offset, 1).encode() + encode_padding(size - 4)
            packet = forge(sa, text, options=area, coffset=1)
            name = f"offset/{kind}/payload-offset-{payload_offset}-for-{exact}"
            yield refused_vector(name, Reason.OFFSET, sa, packet)
    # The option in an SA that has none.
    for label, sa in SAMPLES.items():
        if not sa.max_coffset:
            text = sample_text(sa)
            for coffset in (0, 1, 5, 63):
                clear = min(coffset, len(text) // 4)
                packet = forge(sa, text, options=crypt_offset(sa, coffset), coffset=clear)
                yield refused_vector(f"offset/{label}/c{coffset}-in-an-sa-without", Reason.OFFSET, sa, packet)


def refused_auth() -> Iterator[Vector]:
    for label, sa in SAMPLES.items():
        wide = replace(sa, sub_sas=65536)
        coffset = 3 if sa.max_coffset else 0
        flow = b"\x03\x04\xa1\xb2\xc3\xd4"
        private = b"\xe0\x04\xa1\xb2\xc3\xd4"
        crypt = crypt_offset(sa, coffset, 16) if sa.max_coffset else b"\x01\x02\x00\x00"
        packet = forge(wide, sample_text(sa, 20), options=crypt + flow + private, session=0x0102, coffset=coffset)
        text_at, end = 8 + 16 + sa.peer_len, len(packet)
        parts: list[tuple[str, Sequence[int]]] = [
            ("session", range(16, 32)),
            ("flow", range(8 * 14, 8 * 18)),
            ("private", range(8 * 20, 8 * 24)),
            ("peer", range(8 * 24, 8 * text_at)),
            ("text", range(8 * text_at, 8 * (end - 16))),
            ("icv", range(8 * (end - 16), 8 * end)),
        ]
        if sa.max_coffset:
            parts.append(("r-and-f", range(8 * 12 - 4, 8 * 12)))
        for part, bits in parts:
            for bit in bits:
                if part in ("flow", "private", "text") and bit % 8 != bit // 8 % 8:
                    continue
                yield refused_vector(f"flip/{label}/{part}/bit-{bit}", Reason.AUTH, wide, flip(packet, bit))
        for kind in (0xE1, 0xFF):
            changed = packet[:18] + bytes([kind]) + packet[19:]
            yield refused_vector(f"auth/{label}/private-type-{kind}", Reason.AUTH, wide, changed)
        # An option is put in, one is taken out, and padding is spelled another way.
        if not sa.max_coffset:
            changed = packet[:1] + b"\x14" + packet[2:24] + bytes(4) + packet[24:]
            yield refused_vector(f"auth/{label}/option-added", Reason.AUTH, wide, changed)
            changed = packet[:1] + b"\x0c" + packet[2:8] + packet[12:]
            yield refused_vector(f"auth/{label}/option-removed", Reason.AUTH, wide, changed)
            changed = packet[:8] + bytes(4) + packet[12:]
            yield refused_vector(f"auth/{label}/other-padding", Reason.AUTH, wide, changed)
        else:
            for other in (0, 1, 2, 4, 6):
                changed = packet[:8] + crypt_offset(sa, other, 16) + packet[12:]
                yield refused_vector(f"auth/{label}/coffset-{other}", Reason.AUTH, wide, changed)
        # Another SA of this SPI.
        root = flip(sa.root, 8 * len(sa.root) - 1)
        yield refused_vector(f"auth/{label}/root-last-bit", Reason.AUTH, replace(wide, root=root), packet)
        aead = Aead.AES_128_GCM if sa.aead is Aead.AES_256_GCM else Aead.AES_256_GCM
        yield refused_vector(f"auth/{label}/other-aead", Reason.AUTH, replace(wide, aead=aead), packet)
        if sa.sskdf.root_len(sa.aead) == 32:
            sskdf = Sskdf.AES256_CMAC if sa.sskdf is Sskdf.HKDF_SHA2_256 else Sskdf.HKDF_SHA2_256
            yield refused_vector(f"auth/{label}/other-sskdf", Reason.AUTH, replace(wide, sskdf=sskdf), packet)
        # An IV more or less in the peer header.
        other_peer = replace(wide, iv=not sa.iv) if sa.seq else replace(wide, seq=True)
        if not sa.max_coffset:
            yield refused_vector(f"auth/{label}/other-peer-header", Reason.AUTH, other_peer, packet)

        # Nothing is encrypted: the ICV still counts.
        text = bytes(4) if sa.full else b""
        area = crypt_offset(sa, 1) if sa.max_coffset else b""
        packet = forge(sa, text, options=area, coffset=1 if sa.max_coffset else 0)
        end_bit = 8 * len(packet)
        for bit in (end_bit - 128, end_bit - 65, end_bit - 1):
            yield refused_vector(f"auth/empty-ciphertext/{label}/icv-bit-{bit}", Reason.AUTH, sa, flip(packet, bit))
        yield refused_vector(f"auth/empty-ciphertext/{label}/icv-zero", Reason.AUTH, sa, packet[:-16] + bytes(16))


def refused_payload() -> Iterator[Vector]:
    payload = stream(b"eesp/payload/refused", 20)
    for label, sa in SAMPLES.items():
        if sa.full:
            for bit in range(16):
                text = (1 << 15 - bit).to_bytes(2, "big") + bytes([NEXT_UDP, 0]) + payload
                yield refused_vector(f"payload/{label}/info-bit-{bit}", Reason.PAYLOAD, sa, forge(sa, text))
                if sa.max_coffset:
                    packet = forge(sa, text, options=crypt_offset(sa, 2), coffset=2)
                    yield refused_vector(f"payload/{label}/info-bit-{bit}-in-clear", Reason.PAYLOAD, sa, packet)
            for size, padding in ((0, 1), (0, 4), (0, 255), (4, 5), (4, 8), (20, 21), (20, 24), (20, 255), (252, 253)):
                text = bytes([0, 0, NEXT_UDP, padding]) + bytes(size)
                packet = forge(sa, text)
                yield refused_vector(f"payload/{label}/padding-{padding}-of-{size}", Reason.PAYLOAD, sa, packet)
            # A packet of the optimized format.
            for inner in (ipv4(40), ipv6(60)):
                packet = forge(sa, inner)
                yield refused_vector(f"payload/{label}/optimized-ipv{inner[0] >> 4}", Reason.PAYLOAD, sa, packet)
            continue
        for version in range(16):
            if version not in (4, 6):
                text = bytes([version << 4 | 5]) + ipv4(60)[1:]
                yield refused_vector(f"payload/{label}/version-{version}", Reason.PAYLOAD, sa, forge(sa, text))
        for size in range(0, 40, 4):
            if size < 20:
                packet = forge(sa, ipv4(20)[:size])
                yield refused_vector(f"payload/{label}/ipv4-cut-at-{size}", Reason.PAYLOAD, sa, packet)
            if size:
                packet = forge(sa, ipv6(40)[:size])
                yield refused_vector(f"payload/{label}/ipv6-cut-at-{size}", Reason.PAYLOAD, sa, packet)
        for inner, at in ((ipv4(40), 2), (ipv6(60), 4)):
            name = f"payload/{label}/ipv{inner[0] >> 4}"
            stated = int.from_bytes(inner[at : at + 2], "big")
            for more in (1, 4, 256, 65535 - stated):
                text = inner[:at] + (stated + more).to_bytes(2, "big") + inner[at + 2 :]
                yield refused_vector(f"{name}-length-{more}-beyond", Reason.PAYLOAD, sa, forge(sa, text))
            for padding in (256, 260, 1000):
                packet = forge(sa, inner + bytes(padding))
                yield refused_vector(f"{name}-padding-{padding}", Reason.PAYLOAD, sa, packet)
        for stated in (0, 1, 19):
            text = ipv4(40)[:2] + stated.to_bytes(2, "big") + ipv4(40)[4:]
            name = f"payload/{label}/ipv4-length-{stated}"
            yield refused_vector(name, Reason.PAYLOAD, sa, forge(sa, text), decision="ip_length")
        # A packet of the full format.
        packet = forge(sa, encode_text(True, NEXT_IPV4, ipv4(40)))
        yield refused_vector(f"payload/{label}/full", Reason.PAYLOAD, sa, packet)


# --- draft -03 ---------------------------------------------------------------------------------------------------

# What is the same in both drafts is tried above; here is what is not, and the modes.
SAMPLES_03: dict[str, Sa] = {
    "transport": make_sa(encap=Encap.TRANSPORT),
    "beet-crypt-offset": make_sa(Sskdf.AES256_CMAC, iv=True, max_coffset=63, encap=Encap.BEET),
    "ip-tfs": make_sa(Sskdf.HKDF_SHA2_384, Aead.AES_128_GCM, seq=False, iv=True, encap=Encap.IPTFS),
    "tunnel": make_sa(aead=Aead.AES_128_GCM, encap=Encap.TUNNEL),
    "tunnel-crypt-offset": make_sa(Sskdf.HKDF_SHA2_512, max_coffset=63, encap=Encap.TUNNEL),
    "tunnel-without-sub-sas": make_sa(Sskdf.NONE, Aead.AES_128_GCM, sub_sas=1, encap=Encap.TUNNEL),
    "transport-without-sub-sas": make_sa(Sskdf.NONE, iv=True, sub_sas=1, encap=Encap.TRANSPORT),
}


def seal_03() -> Iterator[Vector]:
    """Every SSKDF and none, AEAD, peer header, mode, with and without a crypt offset."""
    number = 0
    inner = itertools.cycle([ipv4(20), ipv6(40), ipv4(21), ipv6(43), ipv4(84), ipv6(102), ipv4(127)])
    sizes = itertools.cycle([0, 1, 15, 16, 17, 33, 64, 100, 255])
    next_headers = itertools.cycle([4, 41, 6, 17, 58, 144, 0, 255])
    for sskdf, aead, (seq, iv), encap, most in itertools.product(Sskdf, Aead, PEERS, Encap, (0, 9)):
        number += 1
        sub_sas = number * 331 % 65536 + 1 if sskdf is not Sskdf.NONE else 1
        sa = make_sa(
            sskdf,
            aead,
            tag="03",
            spi=number * 0x85EBCA6B % 2**32,
            seq=seq,
            iv=iv,
            max_coffset=most,
            align8=number % 3 == 0,
            sub_sas=sub_sas,
            encap=encap,
        )
        size, next_header, packet = next(sizes), next(next_headers), next(inner)
        if sa.tunnel:
            size, next_header = len(packet), NEXT_IPV4 if packet[0] >> 4 == 4 else NEXT_IPV6
        yield seal_vector(
            f"03/{int(sskdf)}/{aead.value}/{peer_label(seq, iv)}/{encap.value}/max{most}",
            sa,
            payload=packet if sa.tunnel else None,
            payload_len=size,
            session=number * 7919 % sub_sas,
            sequence=1 + number * 0x9E3779B97F4A7C15 % 2**63,
            coffset=min(most, number % 7, 1 + size // 4),
            next_header=next_header,
        )
    # Figure 19 of the draft: sequence number and IV, IPv4 and UDP in tunnel mode, 32 octets in clear.
    yield seal_vector(
        "03/figure-19",
        make_sa(tag="figure-19", iv=True, max_coffset=8, encap=Encap.TUNNEL),
        payload=ipv4(128),
        sequence=0x0102030405060708,
        coffset=8,
        next_header=NEXT_IPV4,
    )
    for aead, size in itertools.product(Aead, (0, 1, 3, 4, 63, 64, 127, 128, 129, 1420)):
        sa = make_sa(Sskdf.NONE, aead, tag="none", sub_sas=1, encap=Encap.TRANSPORT)
        yield seal_vector(f"03/none/{aead.value}/{size}", sa, sequence=size + 1, payload_len=size)


def accepted_03() -> Iterator[Vector]:
    areas = {
        "pad1": "00000000",
        "padn-of-8": "0106000000000000",
        "private-224": "e0000100",
        "private-several": "e0000000f0040102030400fe01ee0000",
    }
    for label, sa in SAMPLES_03.items():
        text = sample_text(sa)
        for name, octets in areas.items():
            packet = forge(sa, text, options=bytes.fromhex(octets))
            yield accepted_vector(f"03/option/{label}/{name}", sa, packet)
        for sequence in (1, 2**48, 2**63, MAX_SEQUENCE):
            yield accepted_vector(f"03/sequence/{label}/{sequence:016x}", sa, forge(sa, text, sequence=sequence))
        if sa.max_coffset:
            # Four bits are reserved, and ignored.
            for r, f in itertools.product(range(4), range(4)):
                packet = forge(sa, text, options=crypt_offset(sa, 3, r=r, f=f), coffset=3)
                yield accepted_vector(f"03/crypt-offset/{label}/reserved-{4 * r + f}", sa, packet)
    sa = SAMPLES_03["transport"]
    for next_header in (0, 4, 6, 41, 50, 58, 60, 144, 255):
        text = encode_text(True, next_header, stream(b"eesp/payload/03", 21))
        yield accepted_vector(f"03/next-header/{next_header}", sa, forge(sa, text))
    for size in (0, 40):
        payload = ipv6(40 + size, next_header=NO_NEXT)
        for label in ("tunnel", "tunnel-without-sub-sas", "tunnel-crypt-offset"):
            sa = SAMPLES_03[label]
            packet = forge(sa, encode_text(sa.full, NEXT_IPV6 if sa.full else 0, payload))
            yield accepted_vector(f"03/inner-no-next-header/{label}/{size}", sa, packet)
    sa = SAMPLES_03["tunnel"]
    for padding in (4, 8, 255):
        text = ipv6(40, next_header=NO_NEXT) + bytes(padding)
        decision = "unaligned_text" if len(text) % 4 else ""
        yield accepted_vector(f"03/inner-no-next-header/padding-{padding}", sa, forge(sa, text), decision=decision)


def refused_03() -> Iterator[Vector]:
    for label, sa in SAMPLES_03.items():
        text = sample_text(sa)
        for version in range(1, 16):
            packet = forge(sa, text, first=0x80 | version << 3)
            yield refused_vector(f"03/version/{label}/{version}", Reason.VERSION, sa, packet)
        for reserved in range(1, 8):
            packet = forge(sa, text, first=0x80 | reserved)
            yield refused_vector(f"03/reserved/{label}/{reserved}", Reason.RESERVED, sa, packet)
        for octets in ("03000100", "0301aa00", "0302aabb", "000000000302aabb", "0304a1b2c3d40000", "e00077000302aabb"):
            packet = forge(sa, text, options=bytes.fromhex(octets))
            yield refused_vector(f"03/option/{label}/{octets}", Reason.OPTION, sa, packet)
        if sa.sskdf is Sskdf.NONE:
            for session in (1, 256, 65535):
                packet = forge(sa, text, session=session)
                yield refused_vector(f"03/session/{label}/{session}", Reason.SESSION, sa, packet)
        if sa.max_coffset:
            packet = forge(sa, text, options=crypt_offset(sa, 3, r=3, f=3), coffset=3)
            changed = packet[:11] + bytes([packet[11] & 0xF0]) + packet[12:]
            yield refused_vector(f"03/auth/{label}/reserved-bits-changed", Reason.AUTH, sa, changed)
    sa = SAMPLES_03["transport"]
    for kind in range(3, 224):
        packet = forge(sa, sample_text(sa), options=bytes([kind, 2, 0, 0]))
        yield refused_vector(f"03/option/unknown/{kind}", Reason.OPTION, sa, packet)


def refused_dummy() -> Iterator[Vector]:
    """Next Header 59 (section 4.5.4.1), in both drafts: nothing is delivered, and the ICV counts first."""
    for label, sa in {**SAMPLES, **{f"03-{name}": sa for name, sa in SAMPLES_03.items()}}.items():
        if not sa.full:
            continue
        for size, padding in ((0, 0), (0, 4), (20, 0), (17, 3), (100, 255)):
            text = bytes([0, 0, NO_NEXT, padding]) + stream(b"eesp/dummy", size) + bytes(padding)
            decision = "unaligned_text" if len(text) % 4 else ""
            packet = forge(sa, text)
            name = f"dummy/{label}/{size}-and-{padding}"
            yield refused_vector(name, Reason.DUMMY, sa, packet, decision=decision)
            yield refused_vector(f"{name}/icv", Reason.AUTH, sa, flip(packet, 8 * len(packet) - 1))
        text = bytes([0, 0, NO_NEXT, 21]) + bytes(20)
        yield refused_vector(f"dummy/{label}/padding-21-of-20", Reason.PAYLOAD, sa, forge(sa, text))
        if sa.max_coffset:
            text = bytes([0, 0, NO_NEXT, 0]) + stream(b"eesp/dummy", 20)
            packet = forge(sa, text, options=crypt_offset(sa, 2), coffset=2)
            yield refused_vector(f"dummy/{label}/in-clear", Reason.DUMMY, sa, packet)


def refused_inner() -> Iterator[Vector]:
    """Inner packets that do not say how long they are, and in -03 what is no tunnel's payload."""
    jumbo = {
        "ipv6-udp": ipv6(40) + stream(b"eesp/jumbo", 60),
        "ipv6-hop-by-hop": ipv6(40, next_header=0) + bytes.fromhex("3b00c20400010000") + stream(b"eesp/jumbo", 52),
        "ipv6-tcp-and-4": ipv6(40, next_header=6) + bytes(4),
        "ipv4": ipv4(60)[:2] + bytes(2) + ipv4(60)[4:],
    }
    for label, sa in {**SAMPLES, **{f"03-{name}": sa for name, sa in SAMPLES_03.items()}}.items():
        if sa.full and not sa.tunnel:
            continue
        for name, payload in jumbo.items():
            text = payload
            if sa.full:
                text = encode_text(True, NEXT_IPV4 if name == "ipv4" else NEXT_IPV6, payload)
            packet = forge(sa, text)
            yield refused_vector(f"payload/{label}/jumbo-{name}", Reason.PAYLOAD, sa, packet)
    sa = SAMPLES_03["tunnel-crypt-offset"]
    for name, next_header, payload in (
        ("empty", NEXT_IPV4, b""),
        ("udp", NEXT_UDP, ipv4(40)),
        ("ipv6-in-ipv4", NEXT_IPV4, ipv6(60)),
        ("ipv4-in-ipv6", NEXT_IPV6, ipv4(60)),
        ("ipv4-shorter", NEXT_IPV4, ipv4(40)[:-1]),
        ("ipv4-longer", NEXT_IPV4, ipv4(40) + b"\x00"),
        ("ipv6-shorter", NEXT_IPV6, ipv6(60)[:-4]),
        ("ipv6-longer", NEXT_IPV6, ipv6(60) + bytes(4)),
        ("no-ip", NEXT_IPV4, b"\x55" + ipv4(40)[1:]),
        ("half-a-header", NEXT_IPV4, ipv4(20)[:12]),
    ):
        packet = forge(sa, encode_text(True, next_header, payload))
        yield refused_vector(f"03/payload/tunnel-crypt-offset/{name}", Reason.PAYLOAD, sa, packet)


# --- derivation --------------------------------------------------------------------------------------------------


def derive_vectors() -> Iterator[Vector]:
    """Root key and Session ID to data key and salt alone."""
    number = 0
    for sskdf, aead, session in itertools.product(SSKDFS, Aead, (0, 1, 255, 256, 0x1234, 65535)):
        number += 1
        root = stream(f"eesp/derive/{number}".encode(), sskdf.root_len(aead))
        key = derive(sskdf, root, session, aead)
        yield {
            "name": f"derive/{number}",
            "sskdf": int(sskdf),
            "aead": aead.value,
            "root": root.hex(),
            "session": session,
            "kdf_inputs": [block.hex() for block in key.kdf_inputs],
            "data_key": key.data_key.hex(),
            "mask": key.mask.hex(),
        }


# --- all of them -------------------------------------------------------------------------------------------------


def build() -> Sections:
    """All vectors of the profile, by section."""
    return {
        "seal": [*seal_matrix(), *seal_options(), *seal_offsets(), *seal_lengths(), *seal_extremes(), *seal_03()],
        "accepted": [
            *accepted_options(),
            *accepted_crypt_offsets(),
            *accepted_numbers(),
            *accepted_texts(),
            *accepted_03(),
        ],
        "refused": [
            *refused_base(),
            *refused_short(),
            *refused_options(),
            *refused_offsets(),
            *refused_auth(),
            *refused_payload(),
            *refused_03(),
            *refused_dummy(),
            *refused_inner(),
        ],
        "derive": list(derive_vectors()),
    }
