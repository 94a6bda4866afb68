"""Sub SA keys: KEYMAT_sub = SSKDF(KEY_root, Session ID, L), key and then salt. Or the SA's own, without Sub SAs."""

import enum

from cryptography.hazmat.primitives import hashes

from common.packet import Key
from common.primitives import Aead, counter_inputs, counter_mode, hkdf_expand

SALT_LEN = 4
CMAC_LABEL = b"EESP"


class Sskdf(enum.IntEnum):
    """The transform IDs of the draft; the last one has no definition there."""

    NONE = 0
    HKDF_SHA2_256 = 1
    HKDF_SHA2_384 = 2
    HKDF_SHA2_512 = 3
    AES256_CMAC = 4

    def root_len(self, aead: Aead) -> int:
        """The octets of the root key; without an SSKDF, of the SA's key and salt."""
        return {0: aead.key_bits // 8 + SALT_LEN, 1: 32, 2: 48, 3: 64, 4: 32}[self]


HASHES: dict[Sskdf, hashes.HashAlgorithm] = {
    Sskdf.HKDF_SHA2_256: hashes.SHA256(),
    Sskdf.HKDF_SHA2_384: hashes.SHA384(),
    Sskdf.HKDF_SHA2_512: hashes.SHA512(),
}


def derive(sskdf: Sskdf, root: bytes, session: int, aead: Aead) -> Key:
    """The data key and salt of a Sub SA; the salt is the Key's mask."""
    if len(root) != sskdf.root_len(aead):
        raise ValueError("the root key's length is not that of the SSKDF")
    octets = aead.key_bits // 8 + SALT_LEN
    context = session.to_bytes(2, "big")
    inputs: list[bytes] = []
    if sskdf is Sskdf.NONE:
        material = root
    elif sskdf is Sskdf.AES256_CMAC:
        fixed = CMAC_LABEL + b"\x00" + context + (8 * octets).to_bytes(4, "big")
        inputs = counter_inputs(fixed, octets, counter_octets=4)
        material = counter_mode(root, inputs)[:octets]
    else:
        material = hkdf_expand(HASHES[sskdf], root, context, octets)
    return Key(tuple(inputs), material[:-SALT_LEN], material[-SALT_LEN:])
