"""The committed vectors are the generated ones, cover what they claim, and pass when read back from the file."""

import unittest
from collections import Counter
from typing import Any

import generate
from generators import stateless as generator
from stateless import (
    Aead,
    Combiner,
    Group,
    Level,
    Reason,
    Refused,
    RootKeyError,
    decode_root_key,
    open_packet,
    seal,
)

from .files import load, load_payload, reused_nonces

unhex = bytes.fromhex


def load_group(data: dict[str, Any]) -> Group:
    return Group(
        Aead(data["aead"]),
        Combiner(data["combiner"]),
        {Level[one["level"].upper()]: decode_root_key(unhex(one["der"])) for one in data["levels"]},
        tuple(Level[name.upper()] for name in data["default_levels"]),
    )


class VectorsTest(unittest.TestCase):
    sections: dict[str, Any]

    @classmethod
    def setUpClass(cls) -> None:
        cls.sections = load("stateless")

    def test_file_is_what_is_generated(self) -> None:
        self.assertEqual(generate.output("stateless").read_text(encoding="ascii"), generate.generate("stateless")[1])

    def test_seal(self) -> None:
        for vector in self.sections["seal"]:
            with self.subTest(vector["name"]):
                payload = load_payload(vector)
                self.assertEqual(len(payload), vector["payload_len"])
                addresses: dict[str, Any] = {"src_ip": unhex(vector["src_ip"]), "dst_ip": unhex(vector["dst_ip"])}
                sealed = seal(
                    load_group(vector.get("sender_group", vector["group"])),
                    v=vector["v"],
                    id=unhex(vector["id"]),
                    epoch=vector["epoch"],
                    counter=vector["counter"],
                    payload=payload,
                    options=[Level[name.upper()] for name in vector["options"]],
                    coffset=vector["coffset"],
                    ioffset=vector["ioffset"],
                    **addresses,
                )
                self.assertEqual(sealed.packet.hex(), vector["packet"])
                self.assertEqual(sealed.aad.hex(), vector["aad"])
                opened = open_packet(load_group(vector["group"]), unhex(vector["packet"]), **addresses)
                self.assertEqual(opened.payload, payload)
                generations = {use.level.label: use.generation.label for use in opened.uses}
                self.assertEqual(generations, vector["key_generation"])

    def test_no_key_and_nonce_twice(self) -> None:
        """Vectors are no example to follow if they reuse a nonce under a key for different texts."""
        self.assertEqual(reused_nonces(self.sections["seal"]), [])

    def test_accepted_and_refused(self) -> None:
        for vector in self.sections["accepted"] + self.sections["refused"]:
            with self.subTest(vector["name"]):

                def opened(vector: dict[str, Any] = vector) -> bytes:
                    return open_packet(
                        load_group(vector["group"]),
                        unhex(vector["packet"]),
                        src_ip=unhex(vector["src_ip"]),
                        dst_ip=unhex(vector["dst_ip"]),
                        own_ids=[unhex(own) for own in vector["own_ids"]],
                    ).payload

                if "reason" in vector:
                    with self.assertRaises(Refused) as caught:
                        opened()
                    self.assertEqual(caught.exception.reason.value, vector["reason"])
                else:
                    self.assertEqual(opened().hex(), vector["payload"])

    def test_root_keys(self) -> None:
        for vector in self.sections["root_keys_accepted"]:
            key = decode_root_key(unhex(vector["der"]))
            self.assertEqual(key.root_key_id.hex(), vector["root_key_id"])
            self.assertEqual(list(key.indices), vector["indices"])
            self.assertEqual([value.hex() for value in key.values], vector["values"])
        for vector in self.sections["root_keys_refused"]:
            with self.subTest(vector["name"]), self.assertRaises(RootKeyError):
                decode_root_key(unhex(vector["der"]))

    def test_coverage(self) -> None:
        seals = self.sections["seal"]
        combinations = {
            (v["v"], tuple(v["options"]), v["group"]["aead"], v["group"]["combiner"]) for v in seals
        }
        self.assertEqual(len(combinations & set(self.every_combination())), 6 * 8 * 2 * 2)
        reasons = Counter(vector["reason"] for vector in self.sections["refused"])
        for reason in Reason:
            self.assertGreaterEqual(reasons[reason.value], 5, reason)
        self.assertTrue({"pre", "current", "next"} <= {g for v in seals for g in v["key_generation"].values()})
        self.assertTrue({0, 1, 15, 16, 17, 64, 100, 1420, 9000} <= {v["payload_len"] for v in seals})

    @staticmethod
    def every_combination() -> list[tuple[int, tuple[str, ...], str, str]]:
        return [
            (v, tuple(level.label for level in options), aead.value, combiner.value)
            for v in generator.V_VALUES
            for options in generator.SUBSETS
            for aead in Aead
            for combiner in Combiner
        ]


if __name__ == "__main__":
    unittest.main()
