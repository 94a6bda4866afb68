"""The vectors of profile `tss`."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.packet import seal_octets
from tss import Domain, Header, Lead, Mode, Reason, Receiver, Rekey, derive, encode_header, nonce, open_packet, seal
from tss.header import MAX_COUNTER, MAX_SDI, TYPE
from tss.packet import EPOCH_AGE, TO_CLIENT, shares_nonces

from .vectors import Sections, Vector, check_refused, decided, flip, output_fields, payload_fields, stream

# The SDK of AN 0 and of AN 1.
KEYS = (stream(b"tss/sdk/0", 32), stream(b"tss/sdk/1", 32))
# The same for what is sealed over IPv6: in direct mode, with SSI, the family enters neither key nor nonce.
KEYS6 = (stream(b"tss/sdk6/0", 32), stream(b"tss/sdk6/1", 32))
SDI = 0x123456
SSI = 0xA1B2C3D4
COMMON_REKEY = Rekey(0xFF00, 8)
NO_REKEY = Rekey()


def make_lead(ipv6: bool, tag: str = "main") -> Lead:
    """A lead with documentation addresses (client and server of no particular side) and an entropy of its own."""
    seed = f"tss/lead/{tag}/{ipv6}".encode()
    prefix = (bytes.fromhex("20010db8"), bytes.fromhex("20010db8")) if ipv6 else (b"\xc0\x00\x02", b"\xc6\x33\x64")
    size = 16 if ipv6 else 4
    source, destination = (
        start + stream(seed + side, size - len(start)) for start, side in zip(prefix, (b"/source", b"/destination"))
    )
    return Lead(source + destination + stream(seed + b"/entropy", 4), ipv6)


LEAD4, LEAD6 = make_lead(False), make_lead(True)
# Over IPv6 a data key depends on the address and not on the SSI: who has one has another address.
LEAD6_SSI = make_lead(True, "ssi")


@dataclass(frozen=True)
class Way:
    """A mode and, in server mode, a direction."""

    mode: Mode
    to_client: bool = False

    @property
    def label(self) -> str:
        """The way's name in the vectors."""
        if self.mode is Mode.SERVER:
            return "server-to-client" if self.to_client else "client-to-server"
        return str(self.mode.value)

    def counter(self, low: int) -> int:
        """A counter of this way: in server mode, the top bit is that of the direction."""
        if self.mode is not Mode.SERVER:
            return low
        return low & (TO_CLIENT - 1) | (TO_CLIENT if self.to_client else 0)


CLUSTER, TO_SERVER, TO_A_CLIENT, DIRECT = WAYS = (
    Way(Mode.CLUSTER),
    Way(Mode.SERVER),
    Way(Mode.SERVER, True),
    Way(Mode.DIRECT),
)


def shapes(ways: Sequence[Way] = WAYS) -> Iterator[tuple[Way, bool, Lead]]:
    """Every way with and without SSI over IPv4 and IPv6, without the one that shares nonces."""
    for way, sp, ipv6 in itertools.product(ways, (False, True), (False, True)):
        lead = (LEAD6_SSI if sp else LEAD6) if ipv6 else LEAD4
        if not shares_nonces(way.mode, Header(0, 0, 0, 0, SSI if sp else None), lead):
            yield way, sp, lead


def label(way: Way, sp: bool, lead: Lead) -> str:
    return f"{way.label}/{'ipv6' if lead.ipv6 else 'ipv4'}-{'ssi' if sp else 'no-ssi'}"


# --- seal vectors ------------------------------------------------------------------------------------------------


def seal_vector(
    name: str,
    way: Way,
    header: Header,
    lead: Lead,
    *,
    payload_len: int,
    rekey: Rekey = NO_REKEY,
    only_an: int | None = None,
    domain: Domain = Domain(),
    decision: str = "",
) -> Vector:
    """A packet that is sealed, and opens to what was sealed. `only_an` leaves the group that key alone."""
    keys = [key if only_an in (None, an) else b"" for an, key in enumerate(KEYS6 if lead.ipv6 else KEYS)]
    seed = b"tss/payload/" + name.encode()
    payload = stream(seed, payload_len)
    sealed = seal(way.mode, keys[header.an], header, lead, payload, rekey=rekey, to_client=way.to_client, domain=domain)
    domain = dataclasses.replace(domain, epoch=header.epoch)
    receiver = Receiver(way.mode, header.sdi, keys, rekey, way.to_client, domain)
    opened = open_packet(receiver, sealed.packet, lead)
    if (opened.payload, opened.header) != (payload, header):
        raise AssertionError(f"{name}: the packet does not open to what was sealed")
    vector: Vector = {
        "name": name,
        "mode": way.mode.value,
        "to_client": way.to_client,
        "keys": [key.hex() for key in keys],
        "an": header.an,
        "sdi": header.sdi,
        "sp": header.ssi is not None,
        "ssi": header.ssi or 0,
        "ipv6": lead.ipv6,
        "lead": lead.octets.hex(),
        "epoch": header.epoch,
        "counter": header.counter,
        "rekey_mask": rekey.mask,
        "rekey_shift": rekey.shift,
        "rekey": rekey.of(way.mode, header.counter),
        "crypt_offset": domain.crypt_offset or 0,
        "direction_bit": domain.direction_bit,
        **payload_fields(seed, payload),
        **output_fields(sealed),
    }
    return decided(vector, decision)


def seal_matrix() -> Iterator[Vector]:
    """Every way, family, SSI or not, AN and rekeying or not, with some lengths; the other fields in step."""
    sizes = itertools.cycle([0, 1, 15, 16, 17, 31, 32, 33, 64, 100])
    number = 0
    for (way, sp, lead), an, rekeys, _ in itertools.product(shapes(), (0, 1), (False, True), range(5)):
        if rekeys and way.mode is not Mode.CLUSTER:
            continue
        number += 1
        size = next(sizes)
        header = Header(
            an=an,
            sdi=number * 0x9E3779 & MAX_SDI,
            epoch=number * 331 % 65536,
            counter=way.counter(number * 1_000_000_007 * 97 % 2**48),
            ssi=number * 0x9E3779B1 % 2**32 if sp else None,
        )
        kind = label(way, sp, lead) + ("/rekey" if rekeys else "")
        yield seal_vector(
            f"matrix/{kind}/an{an}/{number}",
            way,
            header,
            make_lead(lead.ipv6, str(number)),
            payload_len=size,
            rekey=COMMON_REKEY if rekeys else NO_REKEY,
        )


def seal_lengths() -> Iterator[Vector]:
    for way, sp, lead in shapes():
        for size in (0, 2, 16, 63, 65, 127, 128, 129, 200, 255, 256, 257, 1420) + ((9000,) if sp else ()):
            header = Header(size & 1, SDI, 3, way.counter(size + 1), SSI if sp else None)
            yield seal_vector(f"length/{label(way, sp, lead)}/{size}", way, header, lead, payload_len=size)


def seal_extremes() -> Iterator[Vector]:
    for way, sp, lead in shapes():
        kind = label(way, sp, lead)
        ssi = SSI if sp else None
        for epoch in (0, 1, 15, 16, 17, 0x00FF, 0x0100, 32767, 32768, 65519, 65520, 65534, 65535):
            header = Header(0, SDI, epoch, way.counter(9), ssi)
            yield seal_vector(f"extreme/{kind}/epoch-{epoch}", way, header, lead, payload_len=12)
        for low in (0, 1, 0xFF, 0x100, 2**32 - 1, 2**32, 2**46, 2**47 - 2, 2**47 - 1):
            header = Header(1, SDI, 4, way.counter(low), ssi)
            yield seal_vector(f"extreme/{kind}/counter-{header.counter:012x}", way, header, lead, payload_len=12)
        if way.mode is not Mode.SERVER:
            for counter in (2**47, MAX_COUNTER - 1, MAX_COUNTER):
                header = Header(1, SDI, 5, counter, ssi)
                yield seal_vector(f"extreme/{kind}/counter-{counter:012x}", way, header, lead, payload_len=12)
        for sdi in (0, 1, 0x800000, MAX_SDI):
            header = Header(0, sdi, 6, way.counter(100 + sdi), ssi)
            yield seal_vector(f"extreme/{kind}/sdi-{sdi:06x}", way, header, lead, payload_len=12)
        if sp:
            for number in (0, 1, 2**31, 2**32 - 1):
                header = Header(0, SDI, 7, way.counter(10), number)
                other = make_lead(lead.ipv6, f"ssi-{number:x}")
                yield seal_vector(f"extreme/{kind}/ssi-{number:08x}", way, header, other, payload_len=12)
        for tag, octet in (("zero", b"\x00"), ("ones", b"\xff")):
            extreme = Lead(octet * len(lead.octets), lead.ipv6)
            header = Header(0, SDI, 8 + 10 * sp, way.counter(11 + octet[0]), ssi)
            yield seal_vector(f"extreme/{kind}/lead-{tag}", way, header, extreme, payload_len=12)
        # The key of the AN in use is enough.
        for an in (0, 1):
            header = Header(an, SDI, 9, way.counter(12), ssi)
            yield seal_vector(f"extreme/{kind}/only-an-{an}", way, header, lead, payload_len=12, only_an=an)


def seal_rekeys() -> Iterator[Vector]:
    """Rekey numbers: masks and shifts to their ends, and counters on both sides of a change of key."""
    rekeys = [
        Rekey(0xFF00, 8),
        Rekey(0xFF00, 0),
        Rekey(0xFF00, 12),
        Rekey(0xFF00, 16),
        Rekey(0xFFFFFFFF, 0),
        Rekey(0x0F0F00, 4),
        Rekey(1, 0),
        Rekey(MAX_COUNTER, 16),
        Rekey(MAX_COUNTER, 47),
        Rekey(1 << 47, 47),
        Rekey(1 << 47, 16),
        Rekey(0xFFFFFF000000, 24),
        Rekey(0, 8),
        Rekey(0, 47),
    ]
    counters = (0, 0xFF, 0x100, 0xFEFF, 0xFFFF, 0x10000, 0x123456789ABC, MAX_COUNTER)
    for n, (rekey, counter) in enumerate(itertools.product(rekeys, counters)):
        sp = n % 3 == 0
        lead = (LEAD4, LEAD6_SSI if sp else LEAD6)[n // len(counters) % 2]
        # An epoch of its own for each mask and shift, so that no nonce repeats under a key.
        header = Header(n % 2, SDI, 100 + n // len(counters), counter, SSI if sp else None)
        name = f"rekey/{rekey.mask:x}-{rekey.shift}/{counter:012x}"
        yield seal_vector(name, CLUSTER, header, lead, payload_len=n % 40, rekey=rekey)
    # In server mode mask and shift have no effect.
    for way, sp in itertools.product((TO_SERVER, TO_A_CLIENT), (False, True)):
        header = Header(0, SDI, 200, way.counter(0x123456789ABC), SSI if sp else None)
        yield seal_vector(
            f"rekey/{label(way, sp, LEAD4)}",
            way,
            header,
            LEAD4,
            payload_len=12,
            rekey=COMMON_REKEY,
            decision="rekey_without_effect",
        )


def seal_domains() -> Iterator[Vector]:
    """Crypt offsets behind the header, and peers in server mode without a direction bit."""
    for n, ((way, sp, lead), offset) in enumerate(itertools.product(shapes(), (16, 20, 28, 64, 1032))):
        if offset > 100 and way not in (CLUSTER, DIRECT):
            continue
        header = Header(n & 1, SDI, 301, 0, SSI if sp else None)
        for size in (offset - header.size, offset - header.size + 1, offset - header.size + 35):
            header = dataclasses.replace(header, counter=way.counter(1000 * offset + size))
            name = f"crypt-offset/{label(way, sp, lead)}/{offset}-of-{size}"
            yield seal_vector(name, way, header, lead, payload_len=size, domain=Domain(crypt_offset=offset))
    apart = Domain(direction_bit=False)
    for n, (way, sp, lead) in enumerate(shapes((TO_SERVER, TO_A_CLIENT))):
        # One SSI for each, so that who seals them does not count with a direction bit and without. What has no SSI
        # would share its counters with all others: it is only opened.
        for counter in (0, 2, 2**47 - 2, 2**47, MAX_COUNTER) if sp else ():
            header = Header(0, SDI, 302, counter, 0xD1000000 + n)
            name = f"no-direction-bit/{label(way, sp, lead)}/{header.counter:012x}"
            yield seal_vector(name, way, header, lead, payload_len=21, domain=apart)


# --- raw packets -------------------------------------------------------------------------------------------------


def forge(
    way: Way,
    header: Header,
    lead: Lead,
    payload: bytes,
    *,
    sdk: bytes = KEYS[0],
    rekey: Rekey = NO_REKEY,
    type: int = TYPE,
    reserved: int = 0,
    crypt_offset: int = 0,
) -> bytes:
    """A packet whose ICV is right for a header that may be wrong, or out of place."""
    octets = encode_header(header)
    sent = bytes([octets[0] & 0x05 | type << 3 | reserved << 1]) + octets[1:]
    key = derive(way.mode, sdk, header, lead, rekey.of(way.mode, header.counter), to_client=way.to_client)
    return seal_octets(key, nonce(header, lead, key.mask), sent + payload, crypt_offset or len(sent), lead=lead.octets).packet


def receiver_json(receiver: Receiver, packet: bytes, lead: Lead) -> Vector:
    return {
        "mode": receiver.mode.value,
        "from_server": receiver.from_server,
        "keys": [key.hex() for key in receiver.keys],
        "sdi": receiver.sdi,
        "rekey_mask": receiver.rekey.mask,
        "rekey_shift": receiver.rekey.shift,
        "ipv6": lead.ipv6,
        "lead": lead.octets.hex(),
        "crypt_offset": receiver.domain.crypt_offset or 0,
        "direction_bit": receiver.domain.direction_bit,
        "current_epoch": receiver.domain.epoch,
        "epoch_age": receiver.domain.epoch_age,
        "packet": packet.hex(),
    }


def make_receiver(
    way: Way,
    *,
    sdi: int = SDI,
    keys: Sequence[bytes] = KEYS,
    rekey: Rekey = NO_REKEY,
    domain: Domain = Domain(),
) -> Receiver:
    """The receiver of what is sent on a way."""
    return Receiver(way.mode, sdi, keys, rekey, way.to_client, domain)


# --- packets that open -------------------------------------------------------------------------------------------


def accepted_vector(name: str, receiver: Receiver, packet: bytes, lead: Lead) -> Vector:
    opened = open_packet(receiver, packet, lead)
    return {
        "name": name,
        **receiver_json(receiver, packet, lead),
        "payload": opened.payload.hex(),
        "an": opened.header.an,
        "sp": opened.header.ssi is not None,
        "ssi": opened.header.ssi or 0,
        "epoch": opened.header.epoch,
        "counter": opened.header.counter,
    }


# Distances of a packet's epoch from the domain's: the oldest taken is the age back, the newest 2^15 further.
AGES = (EPOCH_AGE, 1, 5, 2**15 - 2, 2**15 - 1)
AHEAD = (0, 1, 2, 1000, 2**15 - 1, 2**15)
CURRENT_EPOCHS = (0, 1, 15, 16, 17, 1000, 32767, 32768, 65519, 65535)


def taken(age: int) -> list[int]:
    return sorted({-age, 1 - age, -1 if age else 0, *AHEAD})


def not_taken(age: int) -> list[int]:
    return sorted(one for one in {-age - 1, -age - 2, -100 - age, -(2**14) - age, 1 - 2**15} if -(2**15) < one < -age)


# Not a client in server mode, whose one data key is of one epoch.
EPOCH_SHAPES = list(shapes((CLUSTER, TO_SERVER, DIRECT)))


def accepted() -> Iterator[Vector]:
    payload = stream(b"tss/payload/accepted", 24)
    cases = [(age, current, one) for age, current in itertools.product(AGES, CURRENT_EPOCHS) for one in taken(age)]
    for n, (age, current, distance) in enumerate(cases):
        way, sp, lead = EPOCH_SHAPES[n % len(EPOCH_SHAPES)]
        epoch = (current + distance) % 2**16
        header = Header(0, SDI, epoch, way.counter(1 + n), SSI if sp else None)
        yield accepted_vector(
            f"epoch/{age}/{current}/{distance:+d}",
            make_receiver(way, domain=Domain(epoch=current, epoch_age=age)),
            forge(way, header, lead, payload),
            lead,
        )
    for way, sp, lead in shapes():
        for epoch in (0, 1, 32768, 65520, 65535):
            header = Header(0, SDI, epoch, way.counter(77), SSI if sp else None)
            yield accepted_vector(
                f"epoch/by-default/{label(way, sp, lead)}/{epoch}",
                make_receiver(way),
                forge(way, header, lead, payload),
                lead,
            )
    for way, sp, lead in shapes((TO_SERVER, TO_A_CLIENT)):
        for counter in (0, TO_CLIENT, MAX_COUNTER):
            header = Header(0, SDI, 0, counter, SSI if sp else None)
            yield accepted_vector(
                f"no-direction-bit/{label(way, sp, lead)}/{counter:012x}",
                make_receiver(way, domain=Domain(direction_bit=False)),
                forge(way, header, lead, payload),
                lead,
            )


# --- refused packets ---------------------------------------------------------------------------------------------


def refused_vector(
    name: str, reason: Reason, receiver: Receiver, packet: bytes, lead: Lead, *, decision: str = ""
) -> Vector:
    """A packet that must be refused; the reason is stated by the caller and checked here."""
    check_refused(name, reason, lambda: open_packet(receiver, packet, lead))
    vector: Vector = {"name": name, "reason": reason.value, **receiver_json(receiver, packet, lead)}
    return decided(vector, decision)


def refused_header() -> Iterator[Vector]:
    payload = stream(b"tss/payload/header", 24)
    for way, sp, lead in shapes():
        kind = label(way, sp, lead)
        receiver = make_receiver(way)
        for an in (0, 1):
            header = Header(an, SDI, 1, way.counter(5), SSI if sp else None)
            packet = forge(way, header, lead, payload, sdk=KEYS[an], reserved=1)
            yield refused_vector(f"reserved/{kind}/an{an}", Reason.RESERVED, receiver, packet, lead)
            # Sealed with the other key, which is there: who overlooks AN would accept.
            packet = forge(way, header, lead, payload, sdk=KEYS[1 - an])
            yield refused_vector(f"auth/{kind}/key-of-an{1 - an}", Reason.AUTH, receiver, packet, lead)
            keys = [key if n != an else b"" for n, key in enumerate(KEYS)]
            yield refused_vector(f"no_key/{kind}/an{an}", Reason.NO_KEY, make_receiver(way, keys=keys), packet, lead)
        header = Header(0, SDI, 1, way.counter(5), SSI if sp else None)
        for type in range(32):
            if type != TYPE:
                packet = forge(way, header, lead, payload, type=type)
                yield refused_vector(f"version/{kind}/type-{type}", Reason.VERSION, receiver, packet, lead)
        for bit in range(24):
            other = Header(0, SDI ^ 1 << bit, 1, way.counter(5), SSI if sp else None)
            packet = forge(way, other, lead, payload)
            yield refused_vector(f"no_key/{kind}/sdi-bit-{bit}", Reason.NO_KEY, receiver, packet, lead)


def refused_truncated() -> Iterator[Vector]:
    for way, sp, lead in shapes():
        kind = label(way, sp, lead)
        header = Header(0, SDI, 1, way.counter(6), SSI if sp else None)
        receiver = make_receiver(way)
        for size in (0, 13) if way is CLUSTER else (0,):
            packet = forge(way, header, lead, stream(b"tss/payload/cut", size))
            for cut in range(header.size + 15 if size else 0, len(packet)):
                reason = Reason.SHORT if cut < header.size + 16 else Reason.AUTH
                yield refused_vector(f"truncated/{kind}/{cut}-of-{len(packet)}", reason, receiver, packet[:cut], lead)
            yield refused_vector(f"extended/{kind}/{size}", Reason.AUTH, receiver, packet + b"\x00", lead)


def refused_context() -> Iterator[Vector]:
    payload = stream(b"tss/payload/context", 24)
    # Direct mode over IPv6 without SSI.
    for an, counter in itertools.product((0, 1), (1, 2**47 + 1)):
        header = Header(an, SDI, 1, counter)
        packet = forge(DIRECT, header, LEAD6, payload, sdk=KEYS[an])
        name = f"unsupported/an{an}/{counter:012x}"
        yield refused_vector(name, Reason.UNSUPPORTED, make_receiver(DIRECT), packet, LEAD6)
    # A counter of the receiver's own direction. The ICV is the one that the receiver would make of it.
    for way, sp, lead in shapes((TO_SERVER, TO_A_CLIENT)):
        for low in (0, 1, 2**46, 2**47 - 1):
            counter = way.counter(low) ^ TO_CLIENT
            header = Header(0, SDI, 1, counter, SSI if sp else None)
            packet = forge(way, header, lead, payload)
            name = f"reflected/{label(way, sp, lead)}/{counter:012x}"
            yield refused_vector(name, Reason.REFLECTED, make_receiver(way), packet, lead)
            if sp:
                continue
            # The same, as the receiver itself sent it to the other end.
            own = Way(Mode.SERVER, not way.to_client)
            packet = forge(own, header, lead, payload)
            yield refused_vector(f"{name}/sent-back", Reason.REFLECTED, make_receiver(way), packet, lead)
    cases = [(age, current, one) for age, current in itertools.product(AGES, CURRENT_EPOCHS) for one in not_taken(age)]
    for n, (age, current, distance) in enumerate(cases):
        way, sp, lead = EPOCH_SHAPES[n % len(EPOCH_SHAPES)]
        header = Header(0, SDI, (current + distance) % 2**16, way.counter(1 + n), SSI if sp else None)
        yield refused_vector(
            f"epoch/{age}/{current}/{distance:+d}",
            Reason.EPOCH,
            make_receiver(way, domain=Domain(epoch=current, epoch_age=age)),
            forge(way, header, lead, payload),
            lead,
        )


def refused_offsets() -> Iterator[Vector]:
    """Crypt offsets behind the payload's end, and packets sealed with another one than the domain's."""
    for way, sp, lead in shapes():
        header = Header(0, SDI, 0, way.counter(8), SSI if sp else None)
        for offset, size in ((20, 3), (20, 0), (64, 40), (1032, 1000)):
            name = f"offset/{label(way, sp, lead)}/{offset}-of-{size}"
            packet = forge(way, header, lead, stream(b"tss/payload/offset", size))
            receiver = make_receiver(way, domain=Domain(crypt_offset=offset))
            yield refused_vector(name, Reason.OFFSET, receiver, packet, lead)
        for sent, read in ((0, 20), (20, 0), (20, 24), (32, 28)):
            name = f"auth/{label(way, sp, lead)}/crypt-offset-{sent}-read-as-{read}"
            packet = forge(way, header, lead, stream(b"tss/payload/offset", 40), crypt_offset=sent)
            receiver = make_receiver(way, domain=Domain(crypt_offset=read or None))
            yield refused_vector(name, Reason.AUTH, receiver, packet, lead)


def refused_auth() -> Iterator[Vector]:
    payload = stream(b"tss/payload/flip", 21)
    for way, sp, lead in shapes():
        kind = label(way, sp, lead)
        header = Header(0, SDI, 0x0102, way.counter(0x030405060708), SSI if sp else None)
        receiver = make_receiver(way)
        packet = forge(way, header, lead, payload)
        at, end = header.size, len(packet)
        parts: list[tuple[str, range]] = [
            ("an", range(7, 8)),
            ("ssi", range(32, 8 * (at - 8))),
            ("epoch", range(8 * (at - 8), 8 * (at - 6))),
            ("counter", range(8 * (at - 6), 8 * at)),
            ("ciphertext", range(8 * at, 8 * (end - 16))),
            ("icv", range(8 * (end - 16), 8 * end)),
        ]
        for part, bits in parts:
            # A client has one data key, of one epoch and one SSI: what it says of others is its own business.
            if way.to_client and part in ("an", "ssi", "epoch"):
                continue
            for bit in bits:
                every = part not in ("ciphertext", "icv") or part == "icv" and way is CLUSTER
                if not every and bit % 8 != bit // 8 % 8:
                    continue
                # In server mode the counter's top bit is the direction.
                if part == "counter" and bit == bits[0] and way.mode is Mode.SERVER:
                    continue
                changed = flip(packet, bit)
                # In whatever epoch a packet now is, it is the domain's.
                current = int.from_bytes(changed[at - 8 : at - 6], "big") if part == "epoch" else 0
                hears = make_receiver(way, domain=Domain(epoch=current))
                yield refused_vector(f"flip/{kind}/{part}/bit-{bit}", Reason.AUTH, hears, changed, lead)
        for octet in range(len(lead.octets)):
            elsewhere = Lead(flip(lead.octets, 8 * octet + octet % 8), lead.ipv6)
            yield refused_vector(f"flip/{kind}/lead/octet-{octet}", Reason.AUTH, receiver, packet, elsewhere)
        exchanged = Lead(lead.destination + lead.source + lead.octets[-4:], lead.ipv6)
        yield refused_vector(f"auth/{kind}/addresses-exchanged", Reason.AUTH, receiver, packet, exchanged)
        close = (flip(KEYS[0], 255), KEYS[1])
        yield refused_vector(f"auth/{kind}/key-last-bit", Reason.AUTH, make_receiver(way, keys=close), packet, lead)
        # Nothing is encrypted: the ICV still counts.
        packet = forge(way, header, lead, b"")
        end = 8 * len(packet)
        for bit in (end - 128, end - 65, end - 1):
            name = f"auth/empty-ciphertext/{kind}/icv-bit-{bit}"
            yield refused_vector(name, Reason.AUTH, receiver, flip(packet, bit), lead)
        zero = packet[:-16] + bytes(16)
        yield refused_vector(f"auth/empty-ciphertext/{kind}/icv-zero", Reason.AUTH, receiver, zero, lead)

    # The lead of the other family fails, for the AAD and over IPv6 for the key.
    for way in (CLUSTER, DIRECT, TO_SERVER, TO_A_CLIENT):
        header = Header(0, SDI, 1, way.counter(3), SSI)
        for lead, other in ((LEAD4, LEAD6), (LEAD6, LEAD4)):
            packet = forge(way, header, lead, payload)
            name = f"auth/{label(way, True, lead)}/lead-of-the-other-family"
            yield refused_vector(name, Reason.AUTH, make_receiver(way), packet, other)
    # The SP bit changed: the header is read as another one, of another length.
    for sp in (False, True):
        header = Header(0, SDI, 1, 3, SSI if sp else None)
        packet = flip(forge(CLUSTER, header, LEAD4, payload), 5)
        name = f"auth/{label(CLUSTER, sp, LEAD4)}/sp-bit"
        at = 4 if sp else 8
        hears = make_receiver(CLUSTER, domain=Domain(epoch=int.from_bytes(packet[at : at + 2], "big")))
        yield refused_vector(name, Reason.AUTH, hears, packet, LEAD4)
    # Another mode. Counters are low, so those that server mode refuses are not among them.
    low = (CLUSTER, TO_SERVER, DIRECT)
    for (sender, receiving), sp in itertools.product(itertools.permutations(low, 2), (False, True)):
        header = Header(0, SDI, 1, 4, SSI if sp else None)
        packet = forge(sender, header, LEAD4, payload)
        name = f"auth/{label(sender, sp, LEAD4)}/read-as-{receiving.label}"
        yield refused_vector(name, Reason.AUTH, make_receiver(receiving), packet, LEAD4)
    # Another rekey number for the same counter.
    rekeys = [NO_REKEY, COMMON_REKEY, Rekey(0xFF00, 7), Rekey(0xFFFF00, 8), Rekey(0xFF, 0)]
    for (one, two), sp in itertools.product(itertools.permutations(rekeys, 2), (False, True)):
        header = Header(0, SDI, 1, 0x0304050607, SSI if sp else None)
        packet = forge(CLUSTER, header, LEAD4, payload, rekey=one)
        name = f"auth/{label(CLUSTER, sp, LEAD4)}/rekey-{one.mask:x}-{one.shift}-read-as-{two.mask:x}-{two.shift}"
        yield refused_vector(name, Reason.AUTH, make_receiver(CLUSTER, rekey=two), packet, LEAD4)


# --- derivation --------------------------------------------------------------------------------------------------


def derive_vectors() -> Iterator[Vector]:
    """SDK and context to data key and mask alone; `rekey` is the number itself."""
    number = 0
    for (way, sp, lead), epoch, rekey in itertools.product(
        shapes((CLUSTER, TO_SERVER, TO_A_CLIENT)), (0, 0x1234, 65535), (0, 0x56, 2**32 - 1)
    ):
        if way.mode is Mode.SERVER and rekey:
            continue
        number += 1
        sdk = stream(f"tss/derive/{number}".encode(), 32)
        header = Header(0, SDI, epoch, way.counter(0), number * 0x9E3779B1 % 2**32 if sp else None)
        key = derive(way.mode, sdk, header, lead, rekey, to_client=way.to_client)
        yield {
            "name": f"derive/{number}",
            "mode": way.mode.value,
            "to_client": way.to_client,
            "key": sdk.hex(),
            "sp": sp,
            "ssi": header.ssi or 0,
            "ipv6": lead.ipv6,
            "lead": lead.octets.hex(),
            "epoch": epoch,
            "rekey": rekey,
            "kdf_inputs": [block.hex() for block in key.kdf_inputs],
            "data_key": key.data_key.hex(),
            "mask": key.mask.hex(),
        }


# --- all of them -------------------------------------------------------------------------------------------------


def build() -> Sections:
    """All vectors of the profile, by section."""
    return {
        "seal": [*seal_matrix(), *seal_lengths(), *seal_extremes(), *seal_rekeys(), *seal_domains()],
        "accepted": list(accepted()),
        "refused": [
            *refused_header(),
            *refused_truncated(),
            *refused_context(),
            *refused_offsets(),
            *refused_auth(),
        ],
        "derive": list(derive_vectors()),
    }
