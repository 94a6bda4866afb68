"""Octets of profile `psp` written out by hand from the format description, against the code."""

import unittest
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import Refused
from psp import Header, Reason, Receiver, derive, encode_header, nonce, open_packet, parse_header, seal

unhex = bytes.fromhex

KEY1 = unhex("563952565d3a78ae773ec1b779f2f2d99f4a7f53a6fbb9b07d5b71f39364d739")
KEYS = (bytes(range(32)), KEY1)
ALL = frozenset(range(4))
SHORT_KEY = unhex("3946da2554eae46ad1ef77a64372edc4")
LONG_KEY = unhex("fa00f609df6020289a1c93d6027081a637ad45b24a5576b36e6f49dd43114d80")
VC = unhex("a0a1a2a3a4a5a6a7")


class HeaderTest(unittest.TestCase):
    def check(self, header: Header, octets: str) -> None:
        encoded = encode_header(header)
        self.assertEqual(encoded.hex(), octets.replace(" ", ""))
        self.assertEqual(parse_header(encoded + bytes(4 * header.coffset) + bytes(16), ALL), header)

    def test_headers(self) -> None:
        self.check(Header(4, 0, 0, 0x9A345678, 1), "04 01 00 01  9a345678  0000000000000001")
        self.check(Header(41, 5, 1, 0x01020304, 0x1122334455667788), "29 01 05 05  01020304  1122334455667788")
        self.check(Header(6, 0, 2, 1, 2), "06 01 00 09  00000001  0000000000000002")
        self.check(Header(17, 63, 1, 1, 2, VC, True), f"11 02 3f 07  00000001  0000000000000002  {VC.hex()}")
        flags = Header(17, 2, 3, 1, 2, VC, True, s=True, d=True, reserved=2)
        self.check(flags, f"11 02 82 cf  00000001  0000000000000002  {VC.hex()}")
        self.check(Header(17, 1, 1, 1, 2, VC + VC), f"11 03 01 05  00000001  0000000000000002  {VC.hex()}{VC.hex()}")
        longest = bytes(8 * 254)
        self.check(Header(17, 0, 0, 1, 2, longest, True), f"11 ff 00 03  00000001  0000000000000002  {longest.hex()}")

    def test_order_of_checks(self) -> None:
        """A packet with every fault is refused for the first; each one mended uncovers the next."""
        bad = bytearray(unhex("04 01 c0 12  80000000  0000000000000001") + bytes(15))
        mends: list[tuple[Reason, bytes]] = [
            (Reason.SHORT, b"\x04\x01\xc0\x12\x80" + bytes(1)),
            (Reason.VERSION, b"\x04\x01\xff\x06\x80"),
            (Reason.RESERVED, b"\x04\x01\xff\x07\x80"),
            (Reason.HEADER_LEN, b"\x04\x03\xff\x07\x80"),
            (Reason.SHORT, b"\x04\x03\xff\x07\x80" + bytes(16)),
            (Reason.OFFSET, b"\x04\x03\xc1\x07\x80"),
            (Reason.NO_KEY, b"\x04\x03\xc1\x07\x9a"),
            (Reason.AUTH, b""),
        ]
        for reason, mend in mends:
            with self.assertRaises(Refused) as caught:
                open_packet(Receiver(KEYS, ALL), bytes(bad))
            self.assertIs(caught.exception.reason, reason)
            bad[:5] = mend[:5]
            bad += mend[5:]

    def test_what_cannot_be_sent(self) -> None:
        wrong: list[dict[str, Any]] = [
            {"version": 4},
            {"coffset": 6},
            {"coffset": 64, "payload": bytes(256)},
            {"coffset": 62, "payload": bytes(248), "extension": VC},
            {"coffset": 8, "extension": VC, "from_iv": True},
            {"version": 2, "coffset": 1},
            {"version": 2, "coffset": 1, "extension": VC, "from_iv": True},
            {"extension": bytes(7)},
            {"extension": bytes(8 * 255)},
            {"has_vc": True},
            {"spi": 0},
            {"spi": 0x80000000},
        ]
        for changes in wrong:
            fields: dict[str, Any] = {"version": 0, "spi": 1, "iv": 1, "next_header": 4, "payload": bytes(20)}
            with self.assertRaises(ValueError):
                seal(KEYS, **(fields | changes))


class DerivationTest(unittest.TestCase):
    def test_known_answers(self) -> None:
        short, long = derive(KEY1, 0, 0x9A345678), derive(KEY1, 1, 0x9A345678)
        self.assertEqual([one.hex() for one in short.kdf_inputs], ["00000001507630009a34567800000080"])
        self.assertEqual(
            [one.hex() for one in long.kdf_inputs],
            ["00000001507631009a34567800000100", "00000002507631009a34567800000100"],
        )
        self.assertEqual(short.data_key, SHORT_KEY)
        self.assertEqual(long.data_key, LONG_KEY)

    def test_gmac_labels(self) -> None:
        self.assertEqual(derive(KEY1, 2, 1).kdf_inputs[0].hex(), "00000001507632000000000100000080")
        self.assertEqual(derive(KEY1, 3, 1).kdf_inputs[1].hex(), "00000002507633000000000100000100")

    def test_nonce(self) -> None:
        self.assertEqual(nonce(0x9A345678, 0x1122334455667788).hex(), "9a3456781122334455667788")


class PacketTest(unittest.TestCase):
    PAYLOAD = bytes(range(21))
    NONCE = unhex("9a345678 0000000000000007")

    def seal(self, version: int, coffset: int = 0, extension: bytes = b"", from_iv: bool = False) -> bytes:
        return seal(
            KEYS,
            version=version,
            spi=0x9A345678,
            iv=7,
            next_header=4,
            payload=self.PAYLOAD,
            coffset=coffset,
            extension=extension,
            from_iv=from_iv,
        ).packet

    def test_by_hand(self) -> None:
        header = unhex("04 01 03 01  9a345678  0000000000000007")
        text = AESGCM(SHORT_KEY).encrypt(self.NONCE, self.PAYLOAD[12:], header + self.PAYLOAD[:12])
        self.assertEqual(self.seal(0, 3), header + self.PAYLOAD[:12] + text)

    def test_vc_by_hand(self) -> None:
        header = unhex("04 02 03 07  9a345678  0000000000000007") + VC
        text = AESGCM(LONG_KEY).encrypt(self.NONCE, self.PAYLOAD[4:], header + self.PAYLOAD[:4])
        self.assertEqual(self.seal(1, 1, VC), header + self.PAYLOAD[:4] + text)

    def test_hidden_vc_by_hand(self) -> None:
        """A crypt offset of 0 or 1 counts from the end of the IV: it encrypts the VC, or the VC's second half."""
        for offset in (0, 1):
            header = unhex(f"04 02 0{offset} 07  9a345678  0000000000000007") + VC[: 4 * offset]
            text = AESGCM(LONG_KEY).encrypt(self.NONCE, VC[4 * offset :] + self.PAYLOAD, header)
            packet = self.seal(1, offset, VC, True)
            self.assertEqual(packet, header + text)
            opened = open_packet(Receiver(KEYS, ALL), packet)
            self.assertEqual((opened.extension, opened.payload), (VC, self.PAYLOAD))
            self.assertEqual(opened.header.payload_coffset, 0)

    def test_gmac_by_hand(self) -> None:
        header = unhex("04 02 00 0b  9a345678  0000000000000007") + VC
        icv = AESGCM(derive(KEY1, 2, 0x9A345678).data_key).encrypt(self.NONCE, b"", header + self.PAYLOAD)
        self.assertEqual(self.seal(2, 0, VC), header + self.PAYLOAD + icv)

    def test_round_trips(self) -> None:
        for version in range(4):
            for vc in (b"", VC):
                for size in range(40):
                    payload = bytes(range(size))
                    for coffset in range(1 if version & 2 else size // 4 + 1):
                        packet = seal(
                            KEYS,
                            version=version,
                            spi=size + 1,
                            iv=coffset,
                            next_header=size,
                            payload=payload,
                            coffset=coffset,
                            extension=vc,
                        ).packet
                        opened = open_packet(Receiver(KEYS, frozenset({version})), packet)
                        self.assertEqual(opened.payload, payload)
                        self.assertEqual(opened.header.payload_coffset, coffset)


if __name__ == "__main__":
    unittest.main()
