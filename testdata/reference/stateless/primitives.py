"""The cryptographic building blocks, as thin names over python3-cryptography."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ICV_LEN = 16


def cmac(key: bytes, message: bytes) -> bytes:
    """AES-CMAC (RFC 4493, NIST SP 800-38B); the key's length chooses the AES."""
    mac = CMAC(algorithms.AES(key))
    mac.update(message)
    return mac.finalize()


def hkdf_sha256(ikm: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-256 (RFC 5869), extract and expand. An empty salt is no salt."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt or None, info=info).derive(ikm)


def gcm_seal(key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
    """AES-GCM; returns ciphertext || 16-octet ICV."""
    return AESGCM(key).encrypt(nonce, plaintext, aad)


def gcm_open(key: bytes, nonce: bytes, aad: bytes, sealed: bytes) -> bytes | None:
    """AES-GCM; returns the plaintext, or None if the ICV is wrong."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        return None
