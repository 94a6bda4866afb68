"""The cryptographic building blocks, as thin names over python3-cryptography, and SP 800-108 on top of them."""

import enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

ICV_LEN = 16
CMAC_LEN = 16


class Aead(str, enum.Enum):
    """The AEAD of a group."""

    AES_128_GCM = "aes-128-gcm"
    AES_256_GCM = "aes-256-gcm"

    @property
    def key_bits(self) -> int:
        """The size of the data key."""
        return 128 if self is Aead.AES_128_GCM else 256


def cmac(key: bytes, message: bytes) -> bytes:
    """AES-CMAC (RFC 4493, NIST SP 800-38B); the key's length chooses the AES."""
    mac = CMAC(algorithms.AES(key))
    mac.update(message)
    return mac.finalize()


def counter_inputs(fixed: bytes, octets: int, *, counter_octets: int = 1) -> list[bytes]:
    """The CMAC inputs of SP 800-108 counter mode: i || fixed for i = 1, 2, ..., one for each 16 octets of output."""
    return [i.to_bytes(counter_octets, "big") + fixed for i in range(1, -(-octets // CMAC_LEN) + 1)]


def counter_mode(key: bytes, inputs: list[bytes]) -> bytes:
    """The output of SP 800-108 counter mode with AES-CMAC: the CMACs of the inputs, joined."""
    return b"".join(cmac(key, block) for block in inputs)


def hkdf_sha256(ikm: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-256 (RFC 5869), extract and expand. An empty salt is no salt."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt or None, info=info).derive(ikm)


def hkdf_expand(algorithm: hashes.HashAlgorithm, prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand alone (RFC 5869, 2.3)."""
    return HKDFExpand(algorithm=algorithm, length=length, info=info).derive(prk)


def gcm_seal(key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
    """AES-GCM; returns ciphertext || 16-octet ICV."""
    return AESGCM(key).encrypt(nonce, plaintext, aad)


def gcm_open(key: bytes, nonce: bytes, aad: bytes, sealed: bytes) -> bytes | None:
    """AES-GCM; returns the plaintext, or None if the ICV is wrong."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        return None
