"""Octets written out by hand from the format description, against the code."""

import hashlib
import hmac
import unittest

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

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
    Refused,
    RootKey,
    RootKeyError,
    combine,
    decode_root_key,
    encode_header,
    encode_root_key,
    kdf_inputs,
    nonce,
    open_packet,
    parse_header,
    seal,
)
from stateless.header import encode_padding
from common.primitives import cmac

unhex = bytes.fromhex

ZONE_ID, USER_ID = bytes(range(0x10, 0x20)), bytes(range(0x40, 0x51))
ZONE = RootKey(ZONE_ID, (1, 2, 3), (b"\xa1" * 32, b"\xa2" * 32, b"\xa3" * 32))
USER = RootKey(USER_ID, (254, 255, 256), (b"\xb1" * 32, b"\xb2" * 32, b"\xb3" * 32))


def group(combiner: Combiner = Combiner.HKDF, aead: Aead = Aead.AES_256_GCM) -> Group:
    return Group(aead, combiner, {Level.ZONE: ZONE, Level.USER: USER}, (Level.ZONE,))


class HeaderTest(unittest.TestCase):
    def check(self, header: Header, octets: str) -> None:
        encoded = encode_header(header)
        self.assertEqual(encoded.hex(), octets.replace(" ", ""))
        parsed, size = parse_header(encoded + bytes(4 * header.coffset) + bytes(16))
        self.assertEqual(parsed, header)
        self.assertEqual(size, len(encoded))

    def test_device_id(self) -> None:
        self.check(
            Header(1, unhex("0a0b0c0d"), 0x1122, 0x334455667788, coffset=0xAB, ioffset=0xC),
            "01 10 0a bc  0a0b0c0d  1122 334455667788",
        )

    def test_connection_id_is_filled_by_one_padn(self) -> None:
        self.check(
            Header(0xA, unhex("0102030405060708"), 0, 1, coffset=2, ioffset=1),
            "02 a0 00 21  0102030405060708  01020000  0000 000000000001",
        )

    def test_options(self) -> None:
        options = (MasterKeyOption(Level.ZONE, 2, ZONE_ID), MasterKeyOption(Level.USER, 255, USER_ID))
        self.check(
            Header(0, unhex("0a0b0c0d"), 5, 6, options=options),
            f"07 00 00 00  0a0b0c0d  e0 12 02 00 {ZONE_ID.hex()}  e1 16 ff 03 {USER_ID.hex()} 000000"
            "  01020000  0005 000000000006",
        )

    def test_longest(self) -> None:
        options = tuple(MasterKeyOption(level, 0, bytes(32)) for level in Level)
        self.assertEqual(len(encode_header(Header(8, bytes(8), 0, 0, options=options))), 128)

    def test_what_cannot_be_sent(self) -> None:
        zone = MasterKeyOption(Level.ZONE, 0, bytes(16))
        user = MasterKeyOption(Level.USER, 0, bytes(16))
        for header in (
            Header(3, bytes(4), 0, 0),
            Header(16, bytes(4), 0, 0),
            Header(0, bytes(8), 0, 0),
            Header(8, bytes(4), 0, 0),
            Header(0, bytes(4), 65536, 0),
            Header(0, bytes(4), 0, 2**48),
            Header(0, bytes(4), 0, 0, coffset=0, ioffset=1),
            Header(0, bytes(4), 0, 0, coffset=256),
            Header(0, bytes(4), 0, 0, coffset=16, ioffset=16),
            Header(0, bytes(4), 0, 0, options=(user, zone)),
            Header(0, bytes(4), 0, 0, options=(zone, zone)),
            Header(0, bytes(4), 0, 0, options=(MasterKeyOption(Level.ZONE, 0, bytes(15)),)),
            Header(0, bytes(4), 0, 0, options=(MasterKeyOption(Level.ZONE, 256, bytes(16)),)),
        ):
            with self.assertRaises(ValueError):
                encode_header(header)

    def test_padding(self) -> None:
        self.assertEqual([encode_padding(n).hex() for n in range(5)], ["", "00", "0100", "010100", "01020000"])

    def test_order_of_checks(self) -> None:
        """A packet with every fault is refused for the first; each one mended uncovers the next."""
        bad = bytearray(unhex("f0 71 0a bc 0a0b0c0d e0 e0 e0 e0 e0 e0 e0 e0"))
        mends: list[tuple[Reason, dict[int, int]]] = [
            (Reason.VERSION, {0: 0x00}),
            (Reason.V, {1: 0x11}),
            (Reason.RESERVED, {1: 0x10, 2: 0x0A}),
            (Reason.HEADER_LEN, {0: 0x02}),
            (Reason.SHORT, {}),
        ]
        for reason, mend in mends:
            with self.assertRaises(Refused) as caught:
                parse_header(bytes(bad))
            self.assertIs(caught.exception.reason, reason)
            for at, value in mend.items():
                bad[at] = value
        bad += bytes(24)
        with self.assertRaises(Refused) as caught:
            parse_header(bytes(bad))
        self.assertIs(caught.exception.reason, Reason.OPTION)
        bad[8:16] = bytes(8)
        bad[0] = 0x01
        with self.assertRaises(Refused) as caught:
            parse_header(bytes(bad))
        self.assertIs(caught.exception.reason, Reason.OFFSET)


class RootKeyTest(unittest.TestCase):
    DER = (
        "30 81 89  04 11" + USER_ID.hex() + "30 0c 0202 00fe 0202 00ff 0202 0100"
        "30 66" + "".join("0420" + octet * 32 for octet in ("b1", "b2", "b3"))
    )

    def test_der(self) -> None:
        self.assertEqual(encode_root_key(USER), unhex(self.DER))
        self.assertEqual(decode_root_key(unhex(self.DER)), USER)

    def test_every_truncation_and_extension_is_refused(self) -> None:
        der = unhex(self.DER)
        for size in range(len(der)):
            with self.assertRaises(RootKeyError):
                decode_root_key(der[:size])
        with self.assertRaises(RootKeyError):
            decode_root_key(der + b"\x00")

    def test_pre_may_repeat_current_only_whole(self) -> None:
        a, b, c = USER.values
        self.assertEqual(decode_root_key(encode_root_key(RootKey(USER_ID, (5, 5, 6), (b, b, c)))).indices, (5, 5, 6))
        for indices, values in (((5, 5, 6), (a, b, c)), ((5, 261, 6), (b, b, c)), ((5, 6, 6), (a, b, b))):
            with self.assertRaises(RootKeyError):
                encode_root_key(RootKey(USER_ID, indices, values))


class CombineTest(unittest.TestCase):
    def test_hkdf_by_hand(self) -> None:
        uses = [group().use(Level.ZONE, Generation.CURRENT), group().use(Level.USER, Generation.NEXT)]
        info = b"EESP-SE master" + b"\xe0\x02\x10" + ZONE_ID + b"\xe1\x00\x11" + USER_ID
        extracted = hmac.digest(bytes(32), b"\xa2" * 32 + b"\xb3" * 32, hashlib.sha256)
        self.assertEqual(combine(Combiner.HKDF, uses), hmac.digest(extracted, info + b"\x01", hashlib.sha256))

    def test_xor(self) -> None:
        uses = [group().use(Level.ZONE, Generation.CURRENT), group().use(Level.USER, Generation.PRE)]
        self.assertEqual(combine(Combiner.XOR, uses), bytes([0xA2 ^ 0xB1]) * 32)
        self.assertEqual(combine(Combiner.XOR, uses[:1]), b"\xa2" * 32)

    def test_xor_refusals(self) -> None:
        zone = group().use(Level.ZONE, Generation.CURRENT)
        with self.assertRaises(CombineError) as caught:
            combine(Combiner.XOR, [zone, zone])
        self.assertEqual(caught.exception.reason, "equal")
        with self.assertRaises(CombineError):
            combine(Combiner.XOR, [])


class DerivationTest(unittest.TestCase):
    def test_inputs(self) -> None:
        id4, id8 = unhex("0a0b0c0d"), unhex("0102030405060708")
        v4, v6 = unhex("c0000201"), unhex("20010db8000000000000000000000001")
        mapped = "00000000000000000000ffffc0000201"
        for v, id, bits, want in (
            (0x0, id4, 128, ["01450000 000000000a0b0c0d 1122 0080"]),
            (0x8, id8, 256, ["01450800 0102030405060708 1122 0100", "02450800 0102030405060708 1122 0100"]),
            (0x1, id4, 128, [f"01450100 000000000a0b0c0d 1122 {mapped} 0080"]),
            (0xA, id8, 128, [f"01450a00 0102030405060708 1122 {mapped} {v6.hex()} 0080"]),
        ):
            inputs = kdf_inputs(v, id, 0x1122, v4, v6, bits)
            self.assertEqual([block.hex() for block in inputs], [one.replace(" ", "") for one in want])

    def test_nonce(self) -> None:
        self.assertEqual(nonce(unhex("0a0b0c0d"), 0x1122, 7).hex(), "0a0b0c0d" "1122" "000000000007")
        self.assertEqual(nonce(unhex("0102030410203040"), 1, 2**48 - 1).hex(), "11223344" "0001" "ffffffffffff")


class PacketTest(unittest.TestCase):
    def test_by_hand(self) -> None:
        """A whole packet put together without the package's own sealing."""
        payload = bytes(range(21))
        header = unhex("01 00 00 31 0a0b0c0d 0102 000000000009")
        key = b"".join(
            cmac(b"\xa2" * 32, unhex(f"0{i}450000 000000000a0b0c0d 0102 0100".replace(" ", ""))) for i in (1, 2)
        )
        iv = unhex("0a0b0c0d 0102 000000000009")
        want = header + payload[:12] + AESGCM(key).encrypt(iv, payload[12:], header + payload[4:12])
        sealed = seal(
            group(Combiner.XOR),
            v=0,
            id=unhex("0a0b0c0d"),
            epoch=0x0102,
            counter=9,
            payload=payload,
            coffset=3,
            ioffset=1,
        )
        self.assertEqual(sealed.packet, want)

    def test_round_trips(self) -> None:
        for aead in Aead:
            for options in ((), (Level.ZONE,), (Level.USER,), (Level.ZONE, Level.USER)):
                for size in range(40):
                    payload = bytes(range(size))
                    for coffset in range(size // 4 + 1):
                        for ioffset in range(coffset + 1):
                            sealed = seal(
                                group(aead=aead),
                                v=8,
                                id=b"12345678",
                                epoch=3,
                                counter=size,
                                payload=payload,
                                options=options,
                                coffset=coffset,
                                ioffset=ioffset,
                            )
                            self.assertEqual(open_packet(group(aead=aead), sealed.packet).payload, payload)

    def test_order_key_reflection_auth(self) -> None:
        packet = seal(group(), v=0, id=b"abcd", epoch=0, counter=0, payload=b"", options=(Level.ZONE,)).packet
        broken = packet[:-1] + bytes([packet[-1] ^ 1])
        unknown = broken[:10] + b"\x77" + broken[11:]
        for octets, reason in ((unknown, Reason.NO_KEY), (broken, Reason.REFLECTED)):
            with self.assertRaises(Refused) as caught:
                open_packet(group(), octets, own_ids=[b"abcd"])
            self.assertIs(caught.exception.reason, reason)

    def test_address_missing(self) -> None:
        with self.assertRaises(ValueError):
            seal(group(), v=1, id=b"abcd", epoch=0, counter=0, payload=b"")


if __name__ == "__main__":
    unittest.main()
