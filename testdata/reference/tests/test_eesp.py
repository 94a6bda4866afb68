"""Octets of profile `eesp` written out by hand from the drafts' diagrams, against the code."""

import hashlib
import hmac
import itertools
import unittest
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import Refused
from common.primitives import cmac
from eesp import (
    Aead,
    Encap,
    Reason,
    Sa,
    Sskdf,
    derive,
    encode_header,
    encode_text,
    open_packet,
    parse_options,
    parse_text,
    seal,
)

unhex = bytes.fromhex

ROOT = bytes(range(64))
# An IPv4 packet of 29 octets: UDP with one octet of data. And an IPv6 packet without payload.
IPV4 = unhex("4500001d 00000000 40110000 c0000201 c6336407" "04000035 00090000" "aa")
IPV6 = unhex("60000000 0000 3b 40" "20010db8000000000000000000000001" "20010db8000000000000000000000002")


def make_sa(sskdf: Sskdf = Sskdf.HKDF_SHA2_256, aead: Aead = Aead.AES_128_GCM, **fields: Any) -> Sa:
    if "encap" not in fields:
        fields = {"draft": 2, "encap": None} | fields
    fields = {"sub_sas": 65536} | fields
    return Sa(0x0A0B0C0D, sskdf, aead, ROOT[: sskdf.root_len(aead)], **fields)


def keymat(session: str, size: int) -> bytes:
    """HKDF-Expand with SHA-256 by hand."""
    first = hmac.digest(ROOT[:32], unhex(session) + b"\x01", hashlib.sha256)
    return (first + hmac.digest(ROOT[:32], first + unhex(session) + b"\x02", hashlib.sha256))[:size]


class HeaderTest(unittest.TestCase):
    def check(self, sa: Sa, octets: str, *, coffset: int = 0, flow_id: str = "", sequence: int = 0x11) -> None:
        header = encode_header(sa, session=0x1234, sequence=sequence, coffset=coffset, flow_id=unhex(flow_id))
        self.assertEqual(header.hex(), octets.replace(" ", ""))

    def test_base_and_peer_header(self) -> None:
        base = "80 00 1234 0a0b0c0d"
        self.check(make_sa(), base + "0000000000000011")
        self.check(make_sa(seq=False, iv=True), base + "0000000000000011")
        self.check(make_sa(iv=True), base + "0102030405060708" * 2, sequence=0x0102030405060708)

    def test_options(self) -> None:
        number = "0000000000000011"
        # 8 + 4 + 8 octets to the payload header: 5 units; 000101 000011 00 00.
        self.check(make_sa(max_coffset=3), "80 04 1234 0a0b0c0d  02 02 1430" + number, coffset=3)
        self.check(make_sa(max_coffset=3), "80 04 1234 0a0b0c0d  02 02 1400" + number)
        self.check(make_sa(), "80 04 1234 0a0b0c0d  03 01 aa 00" + number, flow_id="aa")
        self.check(make_sa(), "80 04 1234 0a0b0c0d  03 02 aabb" + number, flow_id="aabb")
        self.check(make_sa(), "80 08 1234 0a0b0c0d  03 03 aabbcc 01 01 00" + number, flow_id="aabbcc")
        self.check(make_sa(), "80 08 1234 0a0b0c0d  03 04 aabbccdd 01 00" + number, flow_id="aabbccdd")
        self.check(
            make_sa(max_coffset=63),
            "80 0c 1234 0a0b0c0d  02 02 1ff0  03 05 aabbccddee 00" + number,
            coffset=63,
            flow_id="aabbccddee",
        )

    def test_alignment(self) -> None:
        number = "0000000000000011"
        # The Payload Info Header makes up for the half word.
        self.check(make_sa(align8=True), "80 04 1234 0a0b0c0d  01 02 0000" + number)
        self.check(make_sa(align8=True, max_coffset=8), "80 04 1234 0a0b0c0d  02 02 1400" + number)
        self.check(
            make_sa(align8=True), "80 0c 1234 0a0b0c0d  03 03 aabbcc  01 05 0000000000" + number, flow_id="aabbcc"
        )
        self.check(make_sa(align8=True, full=False), "80 00 1234 0a0b0c0d" + number)
        self.check(
            make_sa(align8=True, full=False), "80 08 1234 0a0b0c0d  03 01 aa 01 03 000000" + number, flow_id="aa"
        )

    def test_what_cannot_be(self) -> None:
        wrong: list[dict[str, Any]] = [{"seq": False}, {"sub_sas": 0}, {"sub_sas": 65537}, {"max_coffset": 64}]
        for fields in wrong:
            with self.assertRaises(ValueError):
                make_sa(**fields)
        with self.assertRaises(ValueError):
            make_sa(full=False, max_coffset=1)
        unsendable: list[tuple[Sa, dict[str, Any]]] = [
            (make_sa(sub_sas=16), {"session": 16}),
            (make_sa(max_coffset=2), {"coffset": 3}),
            (make_sa(max_coffset=63), {"coffset": 7}),
            (make_sa(), {"sequence": 0}),
            (make_sa(), {"flow_id": bytes(251)}),
            (make_sa(max_coffset=1), {"flow_id": bytes(240)}),
            (make_sa(full=False), {"payload": bytes(20)}),
            (make_sa(full=False), {"payload": IPV4 + b"\x00"}),
            (make_sa(full=False), {"payload": IPV4[:-1]}),
            (make_sa(full=False), {"payload": IPV6 + b"\x00"}),
        ]
        for sa, changes in unsendable:
            packet: dict[str, Any] = {"session": 0, "sequence": 1, "payload": bytes(20)}
            with self.assertRaises(ValueError):
                seal(sa, **(packet | changes))

    def test_order_of_checks(self) -> None:
        """A packet with every fault is refused for the first; each one mended uncovers the next."""
        sa = make_sa(sub_sas=16, max_coffset=2)
        bad = bytearray(unhex("7f 09 ffff 0a0b0c0e" "0202 fff0 04020000 0000000000000000") + bytes(11))
        for reason, at, mend in (
            (Reason.SHORT, 35, "00"),
            (Reason.VERSION, 0, "ff"),
            (Reason.VERSION, 0, "87"),
            (Reason.RESERVED, 0, "80"),
            (Reason.NO_KEY, 7, "0d"),
            (Reason.HEADER_LEN, 1, "08"),
            (Reason.SHORT, 36, "0000000000000000"),
            (Reason.OPTION, 12, "e0"),
            (Reason.SESSION, 2, "0001"),
            (Reason.OFFSET, 10, "1bf0"),
            (Reason.OFFSET, 10, "1830"),
            (Reason.OFFSET, 10, "1820"),
            (Reason.OFFSET, 44, "00000000"),
            (Reason.SEQUENCE, 23, "01"),
            (Reason.AUTH, 0, ""),
        ):
            with self.assertRaises(Refused) as caught:
                open_packet(sa, bytes(bad))
            self.assertIs(caught.exception.reason, reason)
            change = unhex(mend)
            bad[at : at + len(change)] = change


class OptionTest(unittest.TestCase):
    def test_accepted(self) -> None:
        for octets, coffset, flow_id in (
            ("", None, None),
            ("00 01 00 01 02 0000", None, None),
            ("e0 00 ff 01 77", None, None),
            ("03 00", None, b""),
            ("00 03 02 aabb 02 02 143f", 3, b"\xaa\xbb"),
        ):
            options = parse_options(unhex(octets), flow_ids=True)
            found = None if options.crypt_offset is None else options.crypt_offset.coffset
            self.assertEqual((found, options.flow_id), (coffset, flow_id))

    def test_refused(self) -> None:
        for octets in (
            "01",
            "01 01",
            "01 01 01",
            "02 01 00",
            "02 03 000000",
            "02 02 1400 02 02 1400",
            "03 00 03 00",
            "04 00",
            "df 00",
            "e0 02 00",
        ):
            with self.assertRaises(Refused):
                parse_options(unhex(octets))


class DerivationTest(unittest.TestCase):
    def test_hkdf_by_hand(self) -> None:
        for aead, size in ((Aead.AES_128_GCM, 16), (Aead.AES_256_GCM, 32)):
            key = derive(Sskdf.HKDF_SHA2_256, ROOT[:32], 0x1234, aead)
            material = keymat("1234", size + 4)
            self.assertEqual((key.kdf_inputs, key.data_key, key.mask), ((), material[:size], material[size:]))
        for sskdf, name in ((Sskdf.HKDF_SHA2_384, "sha384"), (Sskdf.HKDF_SHA2_512, "sha512")):
            root = ROOT[: sskdf.root_len(Aead.AES_256_GCM)]
            key = derive(sskdf, root, 0xFF00, Aead.AES_256_GCM)
            material = hmac.digest(root, b"\xff\x00\x01", name)
            self.assertEqual((key.data_key, key.mask), (material[:32], material[32:36]))

    def test_cmac_by_hand(self) -> None:
        for aead, size, bits in ((Aead.AES_128_GCM, 16, "000000a0"), (Aead.AES_256_GCM, 32, "00000120")):
            key = derive(Sskdf.AES256_CMAC, ROOT[:32], 0x1234, aead)
            inputs = [unhex(f"0000000{i} 45455350 00 1234 {bits}") for i in range(1, size // 16 + 2)]
            self.assertEqual([len(one) for one in inputs], [15] * len(inputs))
            self.assertEqual(list(key.kdf_inputs), inputs)
            material = b"".join(cmac(ROOT[:32], one) for one in inputs)
            self.assertEqual((key.data_key, key.mask), (material[:size], material[size : size + 4]))


    def test_none(self) -> None:
        """Key and salt as key exchange gives them."""
        for aead, size in ((Aead.AES_128_GCM, 16), (Aead.AES_256_GCM, 32)):
            key = derive(Sskdf.NONE, ROOT[: size + 4], 0, aead)
            self.assertEqual((key.kdf_inputs, key.data_key, key.mask), ((), ROOT[:size], ROOT[size : size + 4]))
            with self.assertRaises(ValueError):
                derive(Sskdf.NONE, ROOT[:size], 0, aead)


class Draft03Test(unittest.TestCase):
    """What -03 changed."""

    def refused(self, sa: Sa, packet: bytes) -> Reason:
        with self.assertRaises(Refused) as caught:
            open_packet(sa, packet)
        reason = caught.exception.reason
        assert isinstance(reason, Reason)
        return reason

    def test_the_mode_says_which_format(self) -> None:
        for encap in Encap:
            for most in (0, 8):
                full = encap is not Encap.TUNNEL or most > 0
                self.assertEqual(make_sa(encap=encap, full=full, max_coffset=most).info_len, 4 * full)
                with self.assertRaises(ValueError):
                    make_sa(encap=encap, full=not full, max_coffset=most)
        for fields in ({"draft": 3, "encap": None}, {"draft": 2, "encap": Encap.TUNNEL}, {"draft": 4}):
            with self.assertRaises(ValueError):
                make_sa(**{"encap": Encap.TRANSPORT, **fields})

    def test_tunnel_by_hand(self) -> None:
        """RFC 8750's implicit IV, no info header, three octets of padding."""
        header = unhex("80 00 0000 0a0b0c0d" "0000000000000001")
        text = AESGCM(ROOT[:16]).encrypt(ROOT[16:20] + unhex("0000000000000001"), IPV4 + bytes(3), header)
        sa = Sa(0x0A0B0C0D, Sskdf.NONE, Aead.AES_128_GCM, ROOT[:20], full=False, encap=Encap.TUNNEL)
        self.assertEqual(seal(sa, session=0, sequence=1, payload=IPV4).sealed.packet, header + text)
        self.assertEqual(open_packet(sa, header + text).text.payload, IPV4)

    def test_no_flow_identifier(self) -> None:
        option = unhex("0302aabb")
        self.assertEqual(parse_options(option, flow_ids=True).flow_id, unhex("aabb"))
        with self.assertRaises(Refused):
            parse_options(option)
        with self.assertRaises(ValueError):
            seal(make_sa(encap=Encap.BEET), session=0, sequence=1, payload=b"", flow_id=b"x")

    def test_dummy(self) -> None:
        """Section 4.5.4.1: discarded, but only after its ICV was right."""
        for sa in (make_sa(), make_sa(encap=Encap.IPTFS), make_sa(encap=Encap.TUNNEL, max_coffset=3)):
            packet = seal(sa, session=0, sequence=1, payload=bytes(9), next_header=59).sealed.packet
            self.assertIs(self.refused(sa, packet), Reason.DUMMY)
            self.assertIs(self.refused(sa, packet[:-1] + bytes([packet[-1] ^ 1])), Reason.AUTH)

    def test_tunnel_with_crypt_offset(self) -> None:
        sa = make_sa(encap=Encap.TUNNEL, max_coffset=8)
        self.assertEqual(seal(sa, session=0, sequence=1, payload=IPV4, next_header=4).text, unhex("0000 04 03") + IPV4 + bytes(3))
        for payload, next_header in ((IPV4, 17), (IPV4, 41), (IPV6, 4), (IPV4[:-1], 4), (IPV6 + b"x", 41), (b"", 4)):
            with self.assertRaises(ValueError):
                seal(sa, session=0, sequence=1, payload=payload, next_header=next_header)

    def test_jumbo(self) -> None:
        """A length field of 0 with something behind it, unless IPv6 says that nothing follows."""
        for head, good in (("60000000 0000 3b 40", True), ("60000000 0000 06 40", False), ("60000000 0000 00 40", False)):
            text = unhex(head) + bytes(32)
            self.assertEqual(parse_text(False, text).payload, text)
            if good:
                self.assertEqual(parse_text(False, text + bytes(8)).payload, text)
                continue
            with self.assertRaises(Refused):
                parse_text(False, text + bytes(8))


class TextTest(unittest.TestCase):
    def test_full(self) -> None:
        for size, text in ((0, "0000 11 00"), (1, "0000 11 03 00 000000"), (3, "0000 11 01 000102 00")):
            payload = bytes(range(size))
            self.assertEqual(encode_text(True, 17, payload), unhex(text))
            self.assertEqual(parse_text(True, unhex(text)).payload, payload)
        for text in ("1000 11 00", "8000 11 00", "0001 11 00", "0800 11 00", "0000 11 01", "0000 11 02 00"):
            with self.assertRaises(Refused):
                parse_text(True, unhex(text))

    def test_optimized(self) -> None:
        self.assertEqual(encode_text(False, 0, IPV4), IPV4 + bytes(3))
        self.assertEqual(encode_text(False, 0, IPV6), IPV6)
        for payload in (IPV4, IPV6):
            for padding in (0, 1, 255):
                self.assertEqual(parse_text(False, payload + b"\xee" * padding).payload, payload)
            for text in (payload[:-1], payload + bytes(256), b"\x55" + payload[1:], b""):
                with self.assertRaises(Refused):
                    parse_text(False, text)


class PacketTest(unittest.TestCase):
    def test_figure_20(self) -> None:
        """Tunnel mode with sequence number and explicit IV; the info header, IPv4 and UDP headers are in clear."""
        header = unhex(
            "80 04 0005"  # 1, Version, R; Opt Len 4; Session ID
            "0a0b0c0d"  # SPI
            # Type 2, data length 2 (the figure counts the whole option); Payload Offset 7, CryptOffset 8: 000111 001000
            "02 02 1c80"
            "1112131415161718"  # sequence number
            "1112131415161718"  # IV
        )
        self.assertEqual(len(header), 7 * 4)
        info = unhex("0000 04 03")  # IPv4; three octets of padding
        key = keymat("0005", 20)
        nonce = key[16:] + unhex("1112131415161718")
        aad = header + info + IPV4[:28]
        want = aad + AESGCM(key[:16]).encrypt(nonce, b"\xaa" + bytes(3), aad)
        sa = make_sa(iv=True, max_coffset=8)
        sealed = seal(sa, session=5, sequence=0x1112131415161718, payload=IPV4, next_header=4, coffset=8)
        self.assertEqual(sealed.sealed.packet, want)
        self.assertEqual(sealed.sealed.aad, aad)
        opened = open_packet(sa, want)
        self.assertEqual((opened.text.payload, opened.text.next_header, opened.header.coffset), (IPV4, 4, 8))

    def test_optimized_with_implicit_iv(self) -> None:
        header = unhex("80 00 0000 0a0b0c0d" "0000000000000001")
        key = keymat("0000", 36)
        text = AESGCM(key[:32]).encrypt(key[32:] + unhex("0000000000000001"), IPV4 + bytes(3), header)
        sa = make_sa(aead=Aead.AES_256_GCM, full=False)
        self.assertEqual(seal(sa, session=0, sequence=1, payload=IPV4).sealed.packet, header + text)

    def test_the_iv_makes_the_nonce(self) -> None:
        """A received packet whose IV is not its sequence number."""
        header = unhex("80 00 0000 0a0b0c0d" "0000000000000001" "a1a2a3a4a5a6a7a8")
        key = keymat("0000", 20)
        nonce = key[16:] + unhex("a1a2a3a4a5a6a7a8")
        packet = header + AESGCM(key[:16]).encrypt(nonce, unhex("0000 11 00 01020304"), header)
        opened = open_packet(make_sa(iv=True), packet)
        self.assertEqual(opened.text.payload, unhex("01020304"))
        self.assertEqual((opened.header.sequence, opened.header.iv), (1, 0xA1A2A3A4A5A6A7A8))

    def test_round_trips(self) -> None:
        for sskdf, aead, (seq, iv), align8, flow in itertools.product(
            list(Sskdf)[1:], Aead, ((True, False), (False, True), (True, True)), (False, True), (0, 1, 6)
        ):
            fields: dict[str, Any] = {"seq": seq, "iv": iv, "align8": align8}
            packet: dict[str, Any] = {"session": 0x1234, "flow_id": bytes(flow)}
            for size in range(10):
                sa = make_sa(sskdf, aead, max_coffset=63, **fields)
                payload = bytes(range(size))
                for coffset in range(size // 4 + 2):
                    sealed = seal(sa, sequence=size + 1, payload=payload, coffset=coffset, **packet).sealed
                    opened = open_packet(sa, sealed.packet)
                    self.assertEqual((opened.text.payload, opened.header.coffset), (payload, coffset))
                    self.assertEqual(len(sealed.packet) % 4, 0)
            for payload in (IPV4, IPV6):
                sa = make_sa(sskdf, aead, full=False, **fields)
                sealed = seal(sa, sequence=1, payload=payload, **packet).sealed
                self.assertEqual(open_packet(sa, sealed.packet).text.payload, payload)


if __name__ == "__main__":
    unittest.main()
