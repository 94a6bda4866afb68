"""The vectors of profile `psp`."""

import itertools
from collections.abc import Iterator, Sequence

from common.packet import Sealed, seal_octets
from psp import Reason, Receiver, derive, nonce, open_packet, seal
from psp.header import BASE_LEN, MAX_COFFSET, MAX_EXTENSION, MAX_VERSION, UNIT, VC_LEN, is_gmac

from .vectors import Sections, Vector, check_refused, decided, flip, output_fields, payload_fields, stream

VERSIONS = range(MAX_VERSION + 1)
ALL_VERSIONS = frozenset(VERSIONS)
# The device keys of the SPI's top bit 0 and 1; the latter is the one of the published known answer.
DEVICE_KEYS = (
    stream(b"psp/device-key/0", 32),
    bytes.fromhex("563952565d3a78ae773ec1b779f2f2d99f4a7f53a6fbb9b07d5b71f39364d739"),
)
KNOWN_SPI = 0x9A345678
# The longest extension that an implementation has to send; any is taken.
SENT_EXTENSION = 112


def sample_extension(name: str, size: int) -> bytes:
    return stream(b"psp/extension/" + name.encode(), size)


def sample_vc(name: str) -> bytes:
    return stream(b"psp/vc/" + name.encode(), VC_LEN)


# --- seal vectors ------------------------------------------------------------------------------------------------


def seal_vector(
    name: str,
    *,
    version: int,
    spi: int,
    payload_len: int,
    iv: int = 1,
    extension: bytes = b"",
    has_vc: bool | None = None,
    coffset: int = 0,
    from_iv: bool = False,
    next_header: int = 4,
    device_keys: Sequence[bytes] = DEVICE_KEYS,
) -> Vector:
    """A packet that is sealed, and opens to what was sealed."""
    has_vc = bool(extension) if has_vc is None else has_vc
    seed = b"psp/payload/" + name.encode()
    payload = stream(seed, payload_len)
    sealed = seal(
        device_keys,
        version=version,
        spi=spi,
        iv=iv,
        next_header=next_header,
        payload=payload,
        extension=extension,
        has_vc=has_vc,
        coffset=coffset,
        from_iv=from_iv,
    )
    opened = open_packet(Receiver(device_keys, frozenset({version})), sealed.packet)
    header = opened.header
    reported = max(0, coffset - len(extension) // 4) if from_iv else coffset
    got = (opened.payload, opened.extension, header.has_vc, header.payload_coffset, header.next_header)
    if got != (payload, extension, has_vc, reported, next_header):
        raise AssertionError(f"{name}: the packet does not open to what was sealed")
    return {
        "name": name,
        "device_keys": [key.hex() for key in device_keys],
        "version": version,
        "spi": spi,
        "iv": iv,
        "extension": extension.hex(),
        "has_vc": has_vc,
        "from_iv": from_iv,
        "coffset": coffset,
        "next_header": next_header,
        **payload_fields(seed, payload),
        **output_fields(sealed),
    }


def seal_matrix() -> Iterator[Vector]:
    """Every version with and without VC, payload lengths and offsets; the other fields in step, so that they vary."""
    shapes = [
        # payload length, crypt offset
        (0, 0),
        (1, 0),
        (3, 0),
        (4, 0),
        (4, 1),
        (15, 3),
        (16, 0),
        (16, 4),
        (17, 0),
        (17, 4),
        (31, 5),
        (32, 8),
        (33, 1),
        (40, 5),
        (64, 0),
        (64, 15),
        (100, 25),
        (144, 7),
        (200, 10),
    ]
    next_headers = itertools.cycle([4, 41, 6, 17, 50, 59, 0, 255])
    number = 0
    for version, has_vc, (payload_len, coffset) in itertools.product(VERSIONS, (False, True), shapes):
        if is_gmac(version) and coffset:
            continue
        number += 1
        name = f"matrix/v{version}/{'vc' if has_vc else 'no-vc'}/len{payload_len}-c{coffset}"
        yield seal_vector(
            name,
            version=version,
            spi=(number * 0x9E3779B1 & 0x7FFFFFFF) | (number & 1) << 31,
            iv=number * 0x9E3779B97F4A7C15 % 2**63,
            extension=sample_vc(name) if has_vc else b"",
            payload_len=payload_len,
            coffset=coffset,
            next_header=next(next_headers),
        )


def seal_offsets() -> Iterator[Vector]:
    """Every crypt offset of a full-sized payload, and the last one of the shortest payload that holds it."""
    for version, has_vc in itertools.product((0, 1), (False, True)):
        most = MAX_COFFSET - (VC_LEN // 4 if has_vc else 0)
        kind = f"v{version}/{'vc' if has_vc else 'no-vc'}"
        for coffset in sorted({0, 1, 2, 3, 4, 8, 15, 16, 31, 32, 47, most - 1, most}):
            for payload_len in (4 * coffset, 4 * coffset + 3, 256):
                yield seal_vector(
                    f"offset/{kind}/c{coffset}-of-{payload_len}",
                    version=version,
                    spi=0x80000001 + coffset if version else 1 + coffset,
                    iv=payload_len + 1000 * has_vc,
                    extension=sample_vc(kind) if has_vc else b"",
                    payload_len=payload_len,
                    coffset=coffset,
                )


def seal_lengths() -> Iterator[Vector]:
    for version, has_vc in itertools.product(VERSIONS, (False, True)):
        kind = f"v{version}/{'vc' if has_vc else 'no-vc'}"
        for payload_len in (0, 2, 15, 16, 63, 65, 127, 128, 129, 255, 256, 257, 1420, 9000):
            coffset = 0 if is_gmac(version) or payload_len < 28 or payload_len % 2 else 7
            yield seal_vector(
                f"length/{kind}/{payload_len}",
                version=version,
                spi=KNOWN_SPI,
                iv=1000 + payload_len + 10000 * has_vc,
                extension=sample_vc(kind) if has_vc else b"",
                payload_len=payload_len,
                coffset=coffset,
            )


def seal_extremes() -> Iterator[Vector]:
    for version in VERSIONS:
        for spi in (1, 0x7FFFFFFF, 0x80000001, 0xFFFFFFFF):
            yield seal_vector(f"extreme/v{version}/spi-{spi:08x}", version=version, spi=spi, payload_len=20)
        for iv in (0, 1, 2**32 - 1, 2**32, 2**48 - 1, 2**48, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1):
            yield seal_vector(
                f"extreme/v{version}/iv-{iv:016x}", version=version, spi=0x12345678, iv=iv, payload_len=20
            )
        for next_header in (0, 1, 127, 128, 255):
            yield seal_vector(
                f"extreme/v{version}/next-header-{next_header}",
                version=version,
                spi=0x23456789,
                iv=next_header,
                next_header=next_header,
                payload_len=8,
            )
        for name, vc in (("zero", bytes(VC_LEN)), ("ones", b"\xff" * VC_LEN)):
            yield seal_vector(
                f"extreme/v{version}/vc-{name}",
                version=version,
                spi=0x3456789A,
                iv=vc[0],
                extension=vc,
                payload_len=8,
            )
        # One device key is enough if it is the SPI's.
        for bit in (0, 1):
            yield seal_vector(
                f"extreme/v{version}/only-device-key-{bit}",
                version=version,
                spi=bit << 31 | 0x456789AB,
                payload_len=8,
                device_keys=[key if n == bit else b"" for n, key in enumerate(DEVICE_KEYS)],
            )
    yield seal_vector("extreme/all-but-zero", version=0, spi=2, iv=0, next_header=0, payload_len=0)
    yield seal_vector(
        "extreme/everything-ones",
        version=3,
        spi=2**32 - 1,
        iv=2**64 - 1,
        next_header=255,
        extension=b"\xff" * VC_LEN,
        payload_len=16,
    )


def seal_extensions() -> Iterator[Vector]:
    """VC and other extension fields, encrypted wholly, in part, or not at all."""
    number = 0
    for version, size, has_vc in itertools.product(VERSIONS, (8, 16, 56, SENT_EXTENSION), (False, True)):
        kind = f"v{version}/{size}-{'vc' if has_vc else 'no-vc'}"
        units = size // 4
        offsets: list[tuple[bool, int]] = [(True, 0)]
        if not is_gmac(version):
            offsets += [(True, one) for one in sorted({1, 2, units - 1, units, units + 3})] + [(False, 0), (False, 3)]
        for (from_iv, coffset), payload_len in itertools.product(offsets, (0, 17, 45)):
            if 4 * coffset > payload_len + (size if from_iv else 0):
                continue
            number += 1
            yield seal_vector(
                f"extension/{kind}/{'iv' if from_iv else 'payload'}-c{coffset}-of-{payload_len}",
                version=version,
                spi=number | (number & 1) << 31,
                iv=2**40 + number,
                extension=sample_extension(kind, size),
                has_vc=has_vc,
                coffset=coffset,
                from_iv=from_iv,
                payload_len=payload_len,
            )
    for coffset in (0, 1, 2, 62, MAX_COFFSET):
        yield seal_vector(
            f"extension/no-extension/iv-c{coffset}",
            version=coffset & 1,
            spi=77,
            iv=coffset,
            coffset=coffset,
            from_iv=True,
            payload_len=256,
        )


# --- raw packets -------------------------------------------------------------------------------------------------


def forge(
    payload: bytes,
    *,
    version: int = 1,
    spi: int = KNOWN_SPI,
    iv: int = 7,
    extension: bytes = b"",
    field: int | None = None,
    next_header: int = 17,
    extlen: int | None = None,
    top: int = 0,
    flags: int = 0,
    v_bit: int | None = None,
    device_key: bytes | None = None,
) -> bytes:
    """A packet from raw fields, whatever sense they make, with the ICV that is right for them.

    `field` is the crypt offset on the wire (by default the extension's units), `top` the two bits above it, `flags`
    is XORed into octet 3.
    """
    if field is None:
        field = 0 if is_gmac(version) else len(extension) // 4
    bits = version << 2 | (bool(extension) if v_bit is None else v_bit) << 1 | 1
    octets = bytes(
        [next_header, 1 + len(extension) // UNIT if extlen is None else extlen, top << 6 | field, bits ^ flags]
    )
    sent = octets + spi.to_bytes(4, "big") + iv.to_bytes(8, "big") + extension + payload
    clear = len(sent) if version & 2 else min(BASE_LEN + 4 * field, len(sent))
    key = derive(DEVICE_KEYS[spi >> 31] if device_key is None else device_key, version, spi)
    return seal_octets(key, nonce(spi, iv), sent, clear).packet


# --- packets that open though this implementation would not send them --------------------------------------------


def accepted_vector(
    name: str,
    packet: bytes,
    *,
    versions: frozenset[int] = ALL_VERSIONS,
    device_keys: Sequence[bytes] = DEVICE_KEYS,
    decision: str = "",
) -> Vector:
    opened = open_packet(Receiver(device_keys, versions), packet)
    vector: Vector = {
        "name": name,
        "device_keys": [key.hex() for key in device_keys],
        "versions": sorted(versions),
        "packet": packet.hex(),
        "payload": opened.payload.hex(),
        "extension": opened.extension.hex(),
        "has_vc": opened.header.has_vc,
        "coffset": opened.header.payload_coffset,
        "next_header": opened.header.next_header,
        "spi": opened.header.spi,
        "iv": opened.header.iv,
    }
    return decided(vector, decision)


def accepted() -> Iterator[Vector]:
    payload = stream(b"psp/payload/accepted", 40)
    for version, vc in itertools.product(VERSIONS, (b"", sample_vc("accepted"))):
        kind = f"v{version}/{'vc' if vc else 'no-vc'}"
        for bits, name in ((0x80, "s"), (0x40, "d"), (0xC0, "s-and-d")):
            yield accepted_vector(f"flags/{kind}/{name}", forge(payload, version=version, extension=vc, flags=bits))
        for top in (1, 2, 3):
            yield accepted_vector(f"reserved/{kind}/top-{top}", forge(payload, version=version, extension=vc, top=top))
        # Who accepts this version alone, and who accepts it among others.
        for versions in ({version}, {version, version ^ 1}, {version, version ^ 2}, ALL_VERSIONS):
            named = "-".join(str(one) for one in sorted(versions))
            yield accepted_vector(
                f"versions/{kind}/of-{named}",
                forge(payload, version=version, extension=vc),
                versions=frozenset(versions),
            )
        if is_gmac(version):
            # 40 octets of payload are 10 units, 12 with the VC.
            for field in (1, 2, 3, 9, 10) + ((11, 12) if vc else ()):
                yield accepted_vector(
                    f"gmac-coffset/{kind}/{field}",
                    forge(payload, version=version, extension=vc, field=field),
                    decision="gmac_coffset",
                )
        else:
            for field in (0, 1, 2, 3, 9, 10) + ((11, 12) if vc else ()):
                yield accepted_vector(f"coffset/{kind}/{field}", forge(payload, version=version, extension=vc, field=field))
    # Header lengths up to the greatest, with a VC in front and without; offsets before, at and behind the payload.
    for version, size, v_bit in itertools.product(VERSIONS, (8, 16, 24, 64, 248, 256, 1024, MAX_EXTENSION), (0, 1)):
        extension = sample_extension("accepted", size)
        for field in sorted({0, 1, 2, 3, size // 8, size // 4, size // 4 + 5, MAX_COFFSET}):
            if field <= min(MAX_COFFSET, (size + len(payload)) // 4) and (field == 0 or size < 1024):
                yield accepted_vector(
                    f"extension/v{version}/{size}-{'vc' if v_bit else 'no-vc'}/{field}",
                    forge(payload, version=version, extension=extension, v_bit=v_bit, field=field),
                    decision="gmac_coffset" if is_gmac(version) and field else "",
                )
    # Nothing but an extension, encrypted or not.
    for version, field in itertools.product((0, 1), range(5)):
        yield accepted_vector(
            f"extension/v{version}/alone/{field}",
            forge(b"", version=version, extension=sample_extension("alone", 16), field=field),
        )


# --- refused packets ---------------------------------------------------------------------------------------------


def refused_vector(
    name: str,
    reason: Reason,
    packet: bytes,
    *,
    versions: frozenset[int] = ALL_VERSIONS,
    device_keys: Sequence[bytes] = DEVICE_KEYS,
    decision: str = "",
) -> Vector:
    """A packet that must be refused; the reason is stated by the caller and checked here."""
    check_refused(name, reason, lambda: open_packet(Receiver(device_keys, versions), packet))
    vector: Vector = {
        "name": name,
        "reason": reason.value,
        "device_keys": [key.hex() for key in device_keys],
        "versions": sorted(versions),
        "packet": packet.hex(),
    }
    return decided(vector, decision)


def refused_header() -> Iterator[Vector]:
    payload = stream(b"psp/payload/header", 40)
    for version in range(4, 16):
        for kind, vc in (("no-vc", b""), ("vc", sample_vc("header"))):
            yield refused_vector(f"version/{kind}/{version}", Reason.VERSION, forge(payload, version=version, extension=vc))
    for version, size in itertools.product(VERSIONS, (1, 2, 3)):
        for chosen in itertools.combinations([one for one in VERSIONS if one != version], size):
            named = "-".join(str(one) for one in chosen)
            yield refused_vector(
                f"version/v{version}/accepts-{named}",
                Reason.VERSION,
                forge(payload, version=version),
                versions=frozenset(chosen),
            )
    for version, vc in itertools.product(VERSIONS, (b"", sample_vc("header"))):
        kind = f"v{version}/{'vc' if vc else 'no-vc'}"
        yield refused_vector(
            f"reserved/{kind}/last-bit", Reason.RESERVED, forge(payload, version=version, extension=vc, flags=1)
        )
        yield refused_vector(
            f"header_len/{kind}/0", Reason.HEADER_LEN, forge(payload, version=version, extension=vc, extlen=0)
        )
        # A VC that there is no room for, and one that goes beyond the packet.
        for size in (16, 24, 40):
            yield refused_vector(
                f"header_len/{kind}/no-room-{size}",
                Reason.HEADER_LEN,
                forge(payload[:size] + vc, version=version, v_bit=1, extlen=1),
            )
        for extlen, size in ((2, 7), (3, 15), (16, 119), (255, 40), (255, 2031)):
            yield refused_vector(
                f"short/{kind}/{extlen}-of-{size}",
                Reason.SHORT,
                forge(stream(b"psp/payload/short", size), version=version, v_bit=int(bool(vc)), extlen=extlen),
            )
        # The crypt offset beyond the packet; a receiver that cuts it there would find the ICV right.
        for size in (0, 1, 3, 4, 17, 40):
            beyond = (size + len(vc)) // 4 + 1
            for field in sorted({beyond, beyond + 1, 32, 62, MAX_COFFSET}):
                yield refused_vector(
                    f"offset/{kind}/{field}-of-{size}",
                    Reason.OFFSET,
                    forge(payload[:size], version=version, extension=vc, field=field),
                    decision="gmac_coffset" if is_gmac(version) else "",
                )


def refused_truncated() -> Iterator[Vector]:
    for version, has_vc, coffset in ((0, False, 3), (1, True, 3), (1, False, 0), (2, False, 0), (3, True, 0)):
        name = f"v{version}-{'vc' if has_vc else 'no-vc'}-c{coffset}"
        sealed = seal(
            DEVICE_KEYS,
            version=version,
            spi=KNOWN_SPI,
            iv=1,
            next_header=4,
            payload=stream(b"psp/payload/cut", 30),
            extension=sample_vc("cut") if has_vc else b"",
            coffset=coffset,
        )
        header_len = BASE_LEN + VC_LEN * has_vc
        for size in range(len(sealed.packet)):
            left = size - header_len - 16
            reason = Reason.SHORT if left < 0 else Reason.OFFSET if left < 4 * coffset else Reason.AUTH
            yield refused_vector(f"truncated/{name}/{size}", reason, sealed.packet[:size])
        yield refused_vector(f"extended/{name}", Reason.AUTH, sealed.packet + b"\x00")


def refused_no_key() -> Iterator[Vector]:
    payload = stream(b"psp/payload/no-key", 24)
    for version, bit in itertools.product(VERSIONS, (0, 1)):
        other = [key if n != bit else b"" for n, key in enumerate(DEVICE_KEYS)]
        # An SPI whose low 31 bits are 0 is nobody's, whatever keys there are.
        packet = forge(payload, version=version, spi=bit << 31)
        yield refused_vector(f"no_key/v{version}/spi-{bit << 31:08x}", Reason.NO_KEY, packet)
        for low in (1, 0x1A345678, 0x7FFFFFFF):
            spi = bit << 31 | low
            # The ICV is right under the device key that is there: who takes it regardless would accept.
            packet = forge(payload, version=version, spi=spi, device_key=DEVICE_KEYS[1 - bit])
            yield refused_vector(f"no_key/v{version}/spi-{spi:08x}", Reason.NO_KEY, packet, device_keys=other)
            packet = forge(payload, version=version, spi=spi, device_key=bytes(32))
            yield refused_vector(f"no_key/v{version}/zero-spi-{spi:08x}", Reason.NO_KEY, packet, device_keys=other)


def sealed_sample(version: int, vc: bytes, payload: bytes, coffset: int) -> Sealed:
    return seal(
        DEVICE_KEYS,
        version=version,
        spi=0x1A345678,
        iv=0x0102030405060708,
        next_header=6,
        payload=payload,
        extension=vc,
        coffset=coffset,
    )


def refused_auth() -> Iterator[Vector]:
    for version, vc in itertools.product(VERSIONS, (b"", sample_vc("flip"))):
        kind = f"v{version}/{'vc' if vc else 'no-vc'}"
        coffset = 0 if is_gmac(version) else 3
        packet = sealed_sample(version, vc, stream(b"psp/payload/flip", 30), coffset).packet
        size = len(packet)
        header_len = BASE_LEN + len(vc)
        parts: list[tuple[str, range]] = [
            ("next-header", range(0, 8)),
            ("reserved", range(16, 18)),
            ("s-and-d", range(24, 26)),
            ("spi-iv", range(32, 128)),
            ("vc", range(128, 8 * header_len)),
            ("payload", range(8 * header_len, 8 * (size - 16))),
            ("icv", range(8 * (size - 16), 8 * size)),
        ]
        for part, bits in parts:
            for bit in bits:
                if part in ("vc", "payload") and bit % 8 != bit // 8 % 8:
                    continue
                yield refused_vector(f"flip/{kind}/{part}/bit-{bit}", Reason.AUTH, flip(packet, bit))
        # Another crypt offset that is in range.
        sent = packet[2]
        for field in range(0, (30 + len(vc)) // 4 + 1):
            if field != sent:
                changed = packet[:2] + bytes([field]) + packet[3:]
                yield refused_vector(f"auth/{kind}/coffset-{field}", Reason.AUTH, changed)
        # Another version that is accepted.
        for other in VERSIONS:
            if other != version:
                changed = packet[:3] + bytes([packet[3] ^ (version ^ other) << 2]) + packet[4:]
                yield refused_vector(f"auth/{kind}/version-{other}", Reason.AUTH, changed)
        # The V bit alone, where there is an extension; the VC taken away, and one put in; a longer extension.
        if vc:
            changed = packet[:3] + bytes([packet[3] ^ 2]) + packet[4:]
            yield refused_vector(f"auth/{kind}/v-bit", Reason.AUTH, changed)
        changed = bytes([packet[0], 3 - packet[1], packet[2], packet[3] ^ 2]) + packet[4:]
        yield refused_vector(f"auth/{kind}/vc-or-not", Reason.AUTH, changed)
        changed = bytes([packet[0], packet[1] + 1]) + packet[2:]
        yield refused_vector(f"auth/{kind}/longer", Reason.AUTH, changed)
        # Every octet of an encrypted extension.
        if vc and not is_gmac(version):
            hidden = seal(
                DEVICE_KEYS,
                version=version,
                spi=0x1A345678,
                iv=0x0102030405060708,
                next_header=6,
                payload=stream(b"psp/payload/hidden", 30),
                extension=vc + vc,
                coffset=1,
                from_iv=True,
            ).packet
            for octet in range(BASE_LEN, BASE_LEN + 16):
                yield refused_vector(f"auth/{kind}/hidden-{octet}", Reason.AUTH, flip(hidden, 8 * octet + octet % 8))
        # Other device keys.
        swapped = DEVICE_KEYS[::-1]
        yield refused_vector(f"auth/{kind}/device-keys-swapped", Reason.AUTH, packet, device_keys=swapped)
        close = (flip(DEVICE_KEYS[0], 255), DEVICE_KEYS[1])
        yield refused_vector(f"auth/{kind}/device-key-last-bit", Reason.AUTH, packet, device_keys=close)

        # Nothing is encrypted: the ICV still counts.
        for length in (0, 4, 16, 64):
            units = 0 if is_gmac(version) else length // 4
            packet = sealed_sample(version, vc, stream(b"psp/payload/empty", length), units).packet
            end = 8 * len(packet)
            name = f"auth/empty-ciphertext/{kind}/{length}"
            for bit in (end - 128, end - 65, end - 1):
                yield refused_vector(f"{name}/icv-bit-{bit}", Reason.AUTH, flip(packet, bit))
            yield refused_vector(f"{name}/icv-zero", Reason.AUTH, packet[:-16] + bytes(16))
            if length:
                yield refused_vector(f"{name}/payload", Reason.AUTH, flip(packet, 8 * header_len))


# --- derivation --------------------------------------------------------------------------------------------------


def derive_vectors() -> Iterator[Vector]:
    cases: list[tuple[str, bytes, int]] = [("known", DEVICE_KEYS[1], KNOWN_SPI)]
    for number, spi in enumerate((2, 1, 0x7FFFFFFF, 0x80000001, 0xFFFFFFFF, 0x01020304)):
        cases.append((f"{spi:08x}", stream(f"psp/derive/{number}".encode(), 32), spi))
    for name, device_key, spi in cases:
        for version in VERSIONS:
            key = derive(device_key, version, spi)
            yield {
                "name": f"derive/{name}/v{version}",
                "device_key": device_key.hex(),
                "version": version,
                "spi": spi,
                "kdf_inputs": [block.hex() for block in key.kdf_inputs],
                "data_key": key.data_key.hex(),
            }


# --- all of them -------------------------------------------------------------------------------------------------


def build() -> Sections:
    """All vectors of the profile, by section."""
    return {
        "seal": [*seal_matrix(), *seal_offsets(), *seal_lengths(), *seal_extremes(), *seal_extensions()],
        "accepted": list(accepted()),
        "refused": [*refused_header(), *refused_truncated(), *refused_no_key(), *refused_auth()],
        "derive": list(derive_vectors()),
    }
