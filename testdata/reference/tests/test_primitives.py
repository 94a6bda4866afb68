"""Published known answers for the building blocks."""

import hashlib
import hmac
import unittest

from cryptography.hazmat.primitives import hashes

from common.primitives import cmac, counter_inputs, counter_mode, gcm_open, gcm_seal, hkdf_expand, hkdf_sha256

unhex = bytes.fromhex


class CmacTest(unittest.TestCase):
    MESSAGE = unhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )

    def test_aes_256_sp800_38b(self) -> None:
        key = unhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
        for size, want in (
            (0, "028962f61b7bf89efc6b551f4667d983"),
            (16, "28a7023f452e8f82bd4bf28d8c37c35c"),
            (40, "aaf3d8f1de5640c232f5b169b9c911e6"),
            (64, "e1992190549f6ed5696a2c056c315410"),
        ):
            self.assertEqual(cmac(key, self.MESSAGE[:size]).hex(), want)

    def test_aes_128_rfc4493(self) -> None:
        key = unhex("2b7e151628aed2a6abf7158809cf4f3c")
        for size, want in (
            (0, "bb1d6929e95937287fa37d129b756746"),
            (16, "070a16b46b4d4144f79bdd9dd04a287c"),
            (40, "dfa66747de9ae63030ca32611497c827"),
            (64, "51f0bebf7e3b9d92fc49741779363cfe"),
        ):
            self.assertEqual(cmac(key, self.MESSAGE[:size]).hex(), want)

class CounterModeTest(unittest.TestCase):
    """From NIST's CAVP vectors of SP 800-108: CMAC, counter before the fixed input."""

    def check(self, key: str, fixed: str, counter_octets: int, output: str) -> None:
        size = len(output) // 2
        inputs = counter_inputs(unhex(fixed), size, counter_octets=counter_octets)
        self.assertEqual(counter_mode(unhex(key), inputs).hex(), output)

    def test_aes_256_counter_of_24_bits_two_blocks(self) -> None:
        self.check(
            "4d71923280fb4a11b25f9d58d67704d8f8bb2d64d89edb9ee6f3de32e4601efc",
            "e27b8f350bc1360ddc476cb0cae886f0161da22ee8159c330f545af1d782a0f0"
            "aacc3c3de6215807161df09336d470b5b4db1cc0ce73ed1d3ea24380",
            3,
            "b5b2bb675fe7b04a52340bd5cf248d5258a1f837dad747ee8a4e904608a8977d",
        )

    def test_aes_256_counter_of_32_bits(self) -> None:
        self.check(
            "d0b1b3b70b2393c48ca05159e7e28cbeadea93f28a7cdae964e5136070c45d5c",
            "dd2f151a3f173492a6fbbb602189d51ddf8ef79fc8e96b8fcbe6dabe73a35b48"
            "104f9dff2d63d48786d2b3af177091d646a9efae005bdfacb61a1214",
            4,
            "8c449fb474d1c1d4d2a33827103b656a",
        )

    def test_aes_128_counter_of_32_bits_two_blocks(self) -> None:
        self.check(
            "695f1b1a16c949cea51cdf2554ec9d42",
            "4fce5942832a390aa1cbe8a0bf9d202cb799e986c9d6b51f45e4d597a6b57f06"
            "a4ebfec6467335d116b7f5f9c5b954062f661820f5db2a5bbb3e0625",
            4,
            "d34b601ec18c34dfa0f9e0b7523e218bdddb9befe8d08b6c0202d75ace0dba89",
        )

    def test_as_psp_has_it(self) -> None:
        """Google's published derivation: the same PRF and counter mode, with PSP's own fields."""
        device = unhex("563952565d3a78ae773ec1b779f2f2d99f4a7f53a6fbb9b07d5b71f39364d739")
        short = cmac(device, unhex("00000001" "50763000" "9a345678" "00000080"))
        self.assertEqual(short.hex(), "3946da2554eae46ad1ef77a64372edc4")
        long = b"".join(cmac(device, unhex(f"0000000{i}" "50763100" "9a345678" "00000100")) for i in (1, 2))
        self.assertEqual(long.hex(), "fa00f609df6020289a1c93d6027081a637ad45b24a5576b36e6f49dd43114d80")


class HkdfTest(unittest.TestCase):
    def test_rfc5869_case_1(self) -> None:
        okm = hkdf_sha256(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
        self.assertEqual(
            okm.hex(),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        )

    def test_rfc5869_case_2(self) -> None:
        okm = hkdf_sha256(bytes(range(0x50)), bytes(range(0x60, 0xB0)), bytes(range(0xB0, 0x100)), 82)
        self.assertEqual(
            okm.hex(),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        )

    def test_rfc5869_case_3_without_salt(self) -> None:
        okm = hkdf_sha256(b"\x0b" * 22, b"", b"", 42)
        self.assertEqual(
            okm.hex(),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        )


class HkdfExpandTest(unittest.TestCase):
    """RFC 5869's cases again, from their PRK; and by hand for the hashes it has no case of."""

    def test_rfc5869(self) -> None:
        for prk, info, okm in (
            (
                "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
                bytes(range(0xF0, 0xFA)),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
                bytes(range(0xB0, 0x100)),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
                "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
            ),
            (
                "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
                b"",
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            ),
        ):
            self.assertEqual(hkdf_expand(hashes.SHA256(), unhex(prk), info, len(okm) // 2).hex(), okm)

    def test_by_hand(self) -> None:
        for algorithm, name in ((hashes.SHA256(), "sha256"), (hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512")):
            prk = bytes(range(hashlib.new(name).digest_size))
            first = hmac.digest(prk, b"\x12\x34\x01", name)
            second = hmac.digest(prk, first + b"\x12\x34\x02", name)
            self.assertEqual(hkdf_expand(algorithm, prk, b"\x12\x34", 36), (first + second)[:36])


class GcmTest(unittest.TestCase):
    """Test cases 4 and 16 of the GCM specification."""

    PLAINTEXT = unhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    AAD = unhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    NONCE = unhex("cafebabefacedbaddecaf888")

    def test_known_answers(self) -> None:
        key = unhex("feffe9928665731c6d6a8f9467308308")
        for aes, icv in ((key, "5bc94fbc3221a5db94fae95ae7121a47"), (key * 2, "76fc6ece0f4e1768cddf8853bb2d551b")):
            sealed = gcm_seal(aes, self.NONCE, self.AAD, self.PLAINTEXT)
            self.assertEqual(sealed[-16:].hex(), icv)
            self.assertEqual(gcm_open(aes, self.NONCE, self.AAD, sealed), self.PLAINTEXT)
            self.assertIsNone(gcm_open(aes, self.NONCE, self.AAD + b"\x00", sealed))


if __name__ == "__main__":
    unittest.main()
