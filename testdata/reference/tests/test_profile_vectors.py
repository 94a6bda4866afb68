"""The committed vectors of psp, tss and eesp are the generated ones, and pass when read back from the file."""

import itertools
import unittest
from collections import Counter
from typing import Any

import eesp
import generate
import psp
import tss
from common.errors import BaseReason, Refused
from common.packet import Key, Sealed

from .files import load, load_payload, reused_nonces

unhex = bytes.fromhex
Vector = dict[str, Any]


def keys_of(texts: list[str]) -> list[bytes]:
    return [unhex(text) for text in texts]


class ProfileVectors:
    """The tests of one profile; a subclass says how its vectors are sealed, opened and derived."""

    class Base(unittest.TestCase):
        profile: str
        reasons: type[BaseReason]
        sections: dict[str, Any]

        def seal(self, vector: Vector, payload: bytes) -> Sealed:
            """Seals the inputs of a vector."""
            raise NotImplementedError

        def open(self, vector: Vector) -> tuple[bytes, Vector]:
            """Opens a packet; the payload, and the reported fields by their names in the vectors."""
            raise NotImplementedError

        def derive(self, vector: Vector) -> Key:
            """Derives the key of a vector of section `derive`."""
            raise NotImplementedError

        @classmethod
        def setUpClass(cls) -> None:
            cls.sections = load(cls.profile)

        def check_key(self, vector: Vector, key: Key) -> None:
            self.assertEqual([one.hex() for one in key.kdf_inputs], vector["kdf_inputs"])
            self.assertEqual(key.data_key.hex(), vector["data_key"])
            self.assertEqual(key.mask.hex(), vector.get("mask", ""))

        def test_file_is_what_is_generated(self) -> None:
            text = generate.output(self.profile).read_text(encoding="ascii")
            self.assertEqual(text, generate.generate(self.profile)[1])
            self.assertEqual(self.sections["profile"], self.profile)

        def test_seal(self) -> None:
            self.assertGreaterEqual(len(self.sections["seal"]), 100)
            for vector in self.sections["seal"]:
                with self.subTest(vector["name"]):
                    payload = load_payload(vector)
                    self.assertEqual(len(payload), vector["payload_len"])
                    sealed = self.seal(vector, payload)
                    self.check_key(vector, sealed.key)
                    self.assertEqual(sealed.nonce.hex(), vector["nonce"])
                    self.assertEqual(sealed.aad.hex(), vector["aad"])
                    self.assertEqual(sealed.packet.hex(), vector["packet"])
                    opened, fields = self.open(vector)
                    self.assertEqual(opened, payload)
                    for name, value in fields.items():
                        self.assertEqual(value, vector[name], name)

        def test_no_key_and_nonce_twice(self) -> None:
            self.assertEqual(reused_nonces(self.sections["seal"]), [])

        def test_accepted(self) -> None:
            for vector in self.sections["accepted"]:
                with self.subTest(vector["name"]):
                    opened, fields = self.open(vector)
                    self.assertEqual(opened.hex(), vector["payload"])
                    for name, value in fields.items():
                        self.assertEqual(value, vector[name], name)

        def test_refused(self) -> None:
            for vector in self.sections["refused"]:
                with self.subTest(vector["name"]):
                    with self.assertRaises(Refused) as caught:
                        self.open(vector)
                    self.assertEqual(caught.exception.reason.value, vector["reason"])

        def test_derive(self) -> None:
            for vector in self.sections["derive"]:
                with self.subTest(vector["name"]):
                    self.check_key(vector, self.derive(vector))

        def test_every_reason_is_there(self) -> None:
            counts = Counter(vector["reason"] for vector in self.sections["refused"])
            self.assertEqual(set(counts), {reason.value for reason in self.reasons})
            for reason, count in counts.items():
                self.assertGreaterEqual(count, 4, reason)


class PspTest(ProfileVectors.Base):
    profile = "psp"
    reasons = psp.Reason

    def seal(self, vector: Vector, payload: bytes) -> Sealed:
        return psp.seal(
            keys_of(vector["device_keys"]),
            extension=unhex(vector["extension"]),
            payload=payload,
            **{name: vector[name] for name in ("version", "spi", "iv", "next_header", "has_vc", "from_iv", "coffset")},
        )

    def open(self, vector: Vector) -> tuple[bytes, Vector]:
        versions = vector["versions"] if "versions" in vector else [vector["version"]]
        receiver = psp.Receiver(keys_of(vector["device_keys"]), frozenset(versions))
        opened = psp.open_packet(receiver, unhex(vector["packet"]))
        header = opened.header
        self.assertEqual(opened.extension.hex(), vector["extension"])
        fields: Vector = {"next_header": header.next_header, "has_vc": header.has_vc}
        if not vector.get("from_iv"):
            fields["coffset"] = header.payload_coffset
        return opened.payload, fields | {"spi": header.spi, "iv": header.iv}

    def derive(self, vector: Vector) -> Key:
        return psp.derive(unhex(vector["device_key"]), vector["version"], vector["spi"])

    def test_known_answers_are_there(self) -> None:
        by_name = {vector["name"]: vector["data_key"] for vector in self.sections["derive"]}
        self.assertEqual(by_name["derive/known/v0"], "3946da2554eae46ad1ef77a64372edc4")
        self.assertEqual(
            by_name["derive/known/v1"], "fa00f609df6020289a1c93d6027081a637ad45b24a5576b36e6f49dd43114d80"
        )

    def test_coverage(self) -> None:
        found = {(one["version"], one["has_vc"], one["spi"] >> 31) for one in self.sections["seal"]}
        self.assertEqual(found, set(itertools.product(range(4), (False, True), (0, 1))))
        # With VC, the crypt offsets that encrypt it whole, and its second half.
        hidden = {
            (one["version"], one["coffset"])
            for one in self.sections["seal"]
            if one["has_vc"] and one["from_iv"] and len(one["extension"]) == 16
        }
        self.assertLessEqual(set(itertools.product((0, 1), (0, 1))), hidden)


class TssTest(ProfileVectors.Base):
    profile = "tss"
    reasons = tss.Reason

    @staticmethod
    def header(vector: Vector) -> tss.Header:
        ssi = vector["ssi"] if vector["sp"] else None
        return tss.Header(vector.get("an", 0), vector.get("sdi", 0), vector["epoch"], vector.get("counter", 0), ssi)

    @staticmethod
    def lead(vector: Vector) -> tss.Lead:
        return tss.Lead(unhex(vector["lead"]), vector["ipv6"])

    def seal(self, vector: Vector, payload: bytes) -> Sealed:
        rekey = tss.Rekey(vector["rekey_mask"], vector["rekey_shift"])
        mode = tss.Mode(vector["mode"])
        self.assertEqual(rekey.of(mode, vector["counter"]), vector["rekey"])
        return tss.seal(
            mode,
            unhex(vector["keys"][vector["an"]]),
            self.header(vector),
            self.lead(vector),
            payload,
            rekey=rekey,
            to_client=vector["to_client"],
            domain=self.domain(vector),
        )

    @staticmethod
    def domain(vector: Vector) -> tss.Domain:
        epoch, age = vector.get("current_epoch", vector.get("epoch", 0)), vector.get("epoch_age", 16)
        return tss.Domain(vector["crypt_offset"] or None, vector["direction_bit"], epoch, age)

    def open(self, vector: Vector) -> tuple[bytes, Vector]:
        receiver = tss.Receiver(
            tss.Mode(vector["mode"]),
            vector["sdi"],
            keys_of(vector["keys"]),
            tss.Rekey(vector["rekey_mask"], vector["rekey_shift"]),
            vector["from_server"] if "from_server" in vector else vector["to_client"],
            self.domain(vector),
        )
        opened = tss.open_packet(receiver, unhex(vector["packet"]), self.lead(vector))
        header = opened.header
        fields = {"an": header.an, "sdi": header.sdi, "epoch": header.epoch, "counter": header.counter}
        return opened.payload, fields | {"sp": header.ssi is not None, "ssi": header.ssi or 0}

    def derive(self, vector: Vector) -> Key:
        return tss.derive(
            tss.Mode(vector["mode"]),
            unhex(vector["key"]),
            self.header(vector),
            self.lead(vector),
            vector["rekey"],
            to_client=vector["to_client"],
        )

    def test_coverage(self) -> None:
        names = ("mode", "to_client", "sp", "ipv6", "an")
        found = {tuple(one[name] for name in names) for one in self.sections["seal"]}
        # Cluster, server in two directions and direct, less direct over IPv6 without SSI.
        self.assertEqual(len(found), 4 * 2 * 2 * 2 - 2)


class EespTest(ProfileVectors.Base):
    profile = "eesp"
    reasons = eesp.Reason

    @staticmethod
    def sa(vector: Vector) -> eesp.Sa:
        return eesp.Sa(
            vector["spi"],
            eesp.Sskdf(vector["sskdf"]),
            eesp.Aead(vector["aead"]),
            unhex(vector["root"]),
            **{name: vector[name] for name in ("seq", "iv", "full", "max_coffset", "align8", "sub_sas", "draft")},
            encap=eesp.Encap(vector["encap"]) if vector["encap"] else None,
        )

    def seal(self, vector: Vector, payload: bytes) -> Sealed:
        sealed = eesp.seal(
            self.sa(vector),
            payload=payload,
            flow_id=unhex(vector["flow_id"]),
            **{name: vector[name] for name in ("session", "sequence", "coffset", "next_header")},
        )
        self.assertEqual(sealed.text.hex(), vector["text"])
        return sealed.sealed

    def open(self, vector: Vector) -> tuple[bytes, Vector]:
        opened = eesp.open_packet(self.sa(vector), unhex(vector["packet"]))
        header = opened.header
        fields = {
            "session": header.session,
            "sequence": header.nonce_number if header.sequence is None else header.sequence,
            "coffset": header.coffset,
            "next_header": opened.text.next_header or 0,
            "flow_id": (header.options.flow_id or b"").hex(),
        }
        return opened.text.payload, fields

    def derive(self, vector: Vector) -> Key:
        sskdf, aead = eesp.Sskdf(vector["sskdf"]), eesp.Aead(vector["aead"])
        return eesp.derive(sskdf, unhex(vector["root"]), vector["session"], aead)

    def test_coverage(self) -> None:
        names = ("sskdf", "aead", "seq", "iv", "full")
        old = {tuple(one[name] for name in names) for one in self.sections["seal"] if one["draft"] == 2}
        self.assertEqual(len(old), 4 * 2 * 3 * 2)
        new = {(*(one[name] for name in names), one["encap"]) for one in self.sections["seal"] if one["draft"] == 3}
        # Every mode has one format, but tunnels, which have another with a crypt offset.
        self.assertEqual(len(new), 5 * 2 * 3 * (4 + 1))


if __name__ == "__main__":
    unittest.main()
