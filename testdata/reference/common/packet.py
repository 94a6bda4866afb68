"""What sealing yields in every profile but `stateless`, and the one call of the AEAD in each direction."""

from dataclasses import dataclass

from .primitives import gcm_open, gcm_seal


@dataclass(frozen=True)
class Key:
    """What a key derivation yields: its CMAC inputs, the data key, and the salt or mask behind it, if any."""

    kdf_inputs: tuple[bytes, ...]
    data_key: bytes
    mask: bytes = b""


@dataclass(frozen=True)
class Sealed:
    """A sealed packet and every value on the way to it."""

    key: Key
    nonce: bytes
    aad: bytes
    packet: bytes


def seal_octets(key: Key, nonce: bytes, sent: bytes, clear: int, *, lead: bytes = b"") -> Sealed:
    """Seals `sent`, of which the first `clear` octets stay in clear. `lead` is authenticated before them, not sent."""
    aad = lead + sent[:clear]
    return Sealed(key, nonce, aad, sent[:clear] + gcm_seal(key.data_key, nonce, aad, sent[clear:]))


def open_octets(key: Key, nonce: bytes, packet: bytes, clear: int, *, lead: bytes = b"") -> bytes | None:
    """The inverse of seal_octets: everything before the ICV, decrypted; None if the ICV is wrong."""
    text = gcm_open(key.data_key, nonce, lead + packet[:clear], packet[clear:])
    return None if text is None else packet[:clear] + text
