"""Octets of profile `tss` written out by hand from the format description, against the code."""

import unittest
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import Refused
from common.primitives import cmac
from tss import (
    Domain,
    Header,
    Lead,
    Mode,
    Reason,
    Receiver,
    Rekey,
    derive,
    encode_header,
    nonce,
    open_packet,
    parse_header,
    seal,
)

unhex = bytes.fromhex

SDK = bytes(range(32))
V4 = Lead(unhex("c0000201 c6336407 e0e1e2e3"), False)
CLIENT6, SERVER6 = "20010db8000000000000000000000001", "20010db8ffff00ff0123456789abcdef"
V6 = Lead(unhex(CLIENT6 + SERVER6 + "e0e1e2e3"), True)
WITH_SSI = Header(1, 0xABCDEF, 0x1122, 0x334455667788, 0xA1A2A3A4)
PLAIN = Header(0, 0x010203, 0x1122, 0x334455667788)


class HeaderTest(unittest.TestCase):
    def test_headers(self) -> None:
        for header, octets in (
            (PLAIN, "08 010203  1122 334455667788"),
            (WITH_SSI, "0d abcdef  a1a2a3a4  1122 334455667788"),
            (Header(1, 0, 0, 0), "09 000000  0000 000000000000"),
            (Header(0, 2**24 - 1, 65535, 2**48 - 1, 0), "0c ffffff  00000000  ffff ffffffffffff"),
        ):
            encoded = encode_header(header)
            self.assertEqual(encoded.hex(), octets.replace(" ", ""))
            self.assertEqual(parse_header(encoded + bytes(16), lambda sdi, an: True), header)

    def test_order_of_checks(self) -> None:
        """A packet with every fault is refused for the first; each one mended uncovers the next."""
        bad = bytearray(unhex("17 abcdef  a1a2a3a4  0001 000000000000")[:11] + bytes(16))
        receiver = Receiver(Mode.SERVER, 0x010203, (SDK, b""), domain=Domain(20, epoch=100))
        for reason, mend in (
            (Reason.SHORT, "17 abcdef"),
            (Reason.VERSION, "0f abcdef"),
            (Reason.RESERVED, "0d 010203"),
            (Reason.NO_KEY, "0c 010204"),
            (Reason.NO_KEY, "0c 010203"),
            (Reason.SHORT, "0c 010203 a1a2a3a4 0001 8000"),
            (Reason.OFFSET, "0c 010203 a1a2a3a4 0001 8000" + 26 * "00"),
            (Reason.REFLECTED, "0c 010203 a1a2a3a4 0001 0000"),
            (Reason.EPOCH, "0c 010203 a1a2a3a4 0054 0000"),
            (Reason.AUTH, ""),
        ):
            with self.assertRaises(Refused) as caught:
                open_packet(receiver, bytes(bad), V4)
            self.assertIs(caught.exception.reason, reason)
            change = unhex(mend)
            bad[: len(change)] = change
            bad += bytes(max(0, (28 if len(change) == 4 else 32) - len(bad)))

    def test_what_cannot_be(self) -> None:
        builds: list[Callable[[], object]] = [
            lambda: Rekey(2**33 - 1, 0),
            lambda: Rekey(2**48 - 1, 15),
            lambda: Rekey(1, 48),
            lambda: Rekey(2**48, 47),
            lambda: Lead(bytes(12), True),
            lambda: Lead(bytes(36), False),
            lambda: encode_header(Header(2, 0, 0, 0)),
            lambda: encode_header(Header(0, 2**24, 0, 0)),
            lambda: seal(Mode.DIRECT, SDK, PLAIN, V6, b""),
            lambda: seal(Mode.SERVER, SDK, PLAIN, V4, b"", to_client=True),
            lambda: seal(Mode.SERVER, SDK, Header(0, 0, 0, 2**47), V4, b""),
            lambda: seal(Mode.CLUSTER, SDK, WITH_SSI, V4, bytes(8), domain=Domain(12)),
            lambda: seal(Mode.CLUSTER, SDK, WITH_SSI, V4, bytes(8), domain=Domain(25)),
        ]
        for build in builds:
            with self.assertRaises(ValueError):
                build()


class DerivationTest(unittest.TestCase):
    def check(self, mode: Mode, header: Header, lead: Lead, rekey: int, fixed: str, *, to_client: bool = False) -> None:
        key = derive(mode, SDK, header, lead, rekey, to_client=to_client)
        inputs = [bytes([i]) + unhex(fixed) for i in (1, 2, 3)]
        self.assertEqual(list(key.kdf_inputs), inputs)
        output = b"".join(cmac(SDK, one) for one in inputs)
        self.assertEqual((key.data_key, key.mask), (output[:32], output[32:44]))

    def test_contexts(self) -> None:
        self.check(Mode.CLUSTER, PLAIN, V4, 5, "553100 1122 00000005 c0000201 00000160")
        self.check(Mode.CLUSTER, WITH_SSI, V4, 5, "553100 1122 00000005 a1a2a3a4 00000160")
        self.check(Mode.CLUSTER, WITH_SSI, V6, 5, f"553100 00000000 1122 00000005 {CLIENT6} 00000160")
        self.check(Mode.CLUSTER, PLAIN, V6, 5, f"553100 00000000 1122 00000005 {CLIENT6} 00000160")
        self.check(Mode.SERVER, PLAIN, V4, 0, "553200 1122 00000000 c0000201 00000160")
        self.check(Mode.SERVER, PLAIN, V4, 0, "553200 1122 00000000 c6336407 00000160", to_client=True)
        self.check(Mode.SERVER, WITH_SSI, V4, 0, "553200 1122 00000000 a1a2a3a4 00000160", to_client=True)
        self.check(Mode.SERVER, PLAIN, V6, 0, f"553200 00000000 1122 00000000 {SERVER6} 00000160", to_client=True)
        self.check(Mode.SERVER, WITH_SSI, V6, 0, f"553200 00000000 1122 00000000 {SERVER6} 00000160", to_client=True)

    def test_direct(self) -> None:
        key = derive(Mode.DIRECT, SDK, PLAIN, V4, 0, to_client=False)
        self.assertEqual((key.kdf_inputs, key.data_key, key.mask), ((), SDK, b""))

    def test_rekey(self) -> None:
        self.assertEqual(Rekey(0xFF00, 8).of(Mode.CLUSTER, 0x123456789ABC), 0x9A)
        self.assertEqual(Rekey(2**48 - 1, 16).of(Mode.CLUSTER, 0x123456789ABC), 0x12345678)
        self.assertEqual(Rekey(0xFF00, 8).of(Mode.SERVER, 0x123456789ABC), 0)

    def test_nonces(self) -> None:
        mask = unhex("0102030405060708090a0b0c")
        self.assertEqual(nonce(PLAIN, V4, b"").hex(), "c0000201" "1122" "334455667788")
        self.assertEqual(nonce(PLAIN, V6, b"").hex(), "00010203" "1122" "334455667788")
        self.assertEqual(nonce(WITH_SSI, V6, b"").hex(), "a1a2a3a4" "1122" "334455667788")
        self.assertEqual(nonce(PLAIN, V4, mask).hex(), "c1020105" "1424" "344c5c6c7c84")

    def test_epochs(self) -> None:
        for epoch, current, age, old in (
            (84, 100, 16, False),
            (83, 100, 16, True),
            (98, 100, 1, True),
            (99, 100, 1, False),
            (65535, 15, 16, False),
            (65534, 15, 16, True),
            (65535, 0, 16, False),
            (65520, 0, 16, False),
            (65519, 0, 16, True),
            (32767, 0, 16, False),
            (32768, 0, 16, False),
            (32769, 0, 16, True),
            (32769, 0, 32767, False),
            (0, 65535, 16, False),
        ):
            self.assertIs(Domain(epoch=current, epoch_age=age).is_late(epoch), old, (epoch, current, age))


class PacketTest(unittest.TestCase):
    PAYLOAD = bytes(range(21))

    def test_cluster_by_hand(self) -> None:
        fixed = unhex(f"553100 00000000 1122 00000077 {CLIENT6} 00000160")
        output = b"".join(cmac(SDK, bytes([i]) + fixed) for i in (1, 2, 3))
        base = unhex("a1a2a3a4 1122 334455667788")
        iv = bytes(a ^ b for a, b in zip(base, output[32:44]))
        header = unhex("0d abcdef  a1a2a3a4  1122 334455667788")
        want = header + AESGCM(output[:32]).encrypt(iv, self.PAYLOAD, V6.octets + header)
        self.assertEqual(seal(Mode.CLUSTER, SDK, WITH_SSI, V6, self.PAYLOAD, rekey=Rekey(0xFF00, 8)).packet, want)

    def test_server_to_client_by_hand(self) -> None:
        fixed = unhex("553200 0005 00000000 c6336407 00000160")
        output = b"".join(cmac(SDK, bytes([i]) + fixed) for i in (1, 2, 3))
        iv = bytes(a ^ b for a, b in zip(unhex("c0000201 0005 800000000001"), output[32:44]))
        header = unhex("08 010203  0005 800000000001")
        want = header + AESGCM(output[:32]).encrypt(iv, self.PAYLOAD, V4.octets + header)
        sent = Header(0, 0x010203, 5, 2**47 + 1)
        self.assertEqual(seal(Mode.SERVER, SDK, sent, V4, self.PAYLOAD, to_client=True).packet, want)
        receiver = Receiver(Mode.SERVER, 0x010203, (SDK, b""), from_server=True)
        self.assertEqual(open_packet(receiver, want, V4).payload, self.PAYLOAD)

    def test_direct_by_hand(self) -> None:
        header = unhex("08 010203  1122 334455667788")
        iv = unhex("c0000201 1122 334455667788")
        want = header + AESGCM(SDK).encrypt(iv, self.PAYLOAD, V4.octets + header)
        self.assertEqual(seal(Mode.DIRECT, SDK, PLAIN, V4, self.PAYLOAD).packet, want)

    def test_crypt_offset_by_hand(self) -> None:
        """The AAD ends where encryption starts, counted from the header's first octet."""
        header = unhex("08 010203  1122 334455667788")
        iv = unhex("c0000201 1122 334455667788")
        text = AESGCM(SDK).encrypt(iv, self.PAYLOAD[8:], V4.octets + header + self.PAYLOAD[:8])
        domain = Domain(20, epoch=0x1122)
        packet = header + self.PAYLOAD[:8] + text
        self.assertEqual(seal(Mode.DIRECT, SDK, PLAIN, V4, self.PAYLOAD, domain=domain).packet, packet)
        receiver = Receiver(Mode.DIRECT, 0x010203, (SDK, b""), domain=domain)
        self.assertEqual(open_packet(receiver, packet, V4).payload, self.PAYLOAD)

    def test_no_direction_bit(self) -> None:
        """A client's packet opens at the client, too: that is what the bit prevents."""
        domain = Domain(direction_bit=False)
        packet = seal(Mode.SERVER, SDK, Header(0, 3, 0, 5, 7), V4, self.PAYLOAD, domain=domain).packet
        for from_server in (False, True):
            receiver = Receiver(Mode.SERVER, 3, (SDK, b""), from_server=from_server, domain=domain)
            self.assertEqual(open_packet(receiver, packet, V4).payload, self.PAYLOAD)

    def test_round_trips(self) -> None:
        keys = (SDK, SDK[::-1])
        for mode in Mode:
            for to_client in (False, True) if mode is Mode.SERVER else (False,):
                for ssi in (None, 0, 7):
                    for lead in (V4, V6):
                        if mode is Mode.DIRECT and lead is V6 and ssi is None:
                            continue
                        for size in range(40):
                            header = Header(size & 1, 3, size, to_client << 47 | size, ssi)
                            payload = bytes(range(size))
                            sealed = seal(mode, keys[size & 1], header, lead, payload, to_client=to_client)
                            receiver = Receiver(mode, 3, keys, from_server=to_client, domain=Domain(epoch=size + 16))
                            opened = open_packet(receiver, sealed.packet, lead)
                            self.assertEqual((opened.header, opened.payload), (header, payload))


if __name__ == "__main__":
    unittest.main()
