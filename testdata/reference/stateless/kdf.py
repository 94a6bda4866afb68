"""Data key and nonce: how header fields and addresses become the inputs of AES-CMAC and AES-GCM."""

from common.primitives import counter_inputs

LABEL = 0x45
V4_MAPPED_PREFIX = bytes(10) + b"\xff\xff"


def map_address(address: bytes) -> bytes:
    """An address as 16 octets; an IPv4 address (4 octets) becomes IPv4-mapped."""
    if len(address) == 4:
        return V4_MAPPED_PREFIX + address
    if len(address) == 16:
        return address
    raise ValueError("an address is 4 or 16 octets, and V asks for one")


def kdf_inputs(v: int, id: bytes, epoch: int, src_ip: bytes, dst_ip: bytes, key_bits: int) -> list[bytes]:
    """The CMAC inputs of SP 800-108 counter mode, one for each 16 octets of key.

    Addresses that V does not name are ignored.
    """
    context = id.rjust(8, b"\x00") + epoch.to_bytes(2, "big")
    kind = v & 0x7
    if kind > 2:
        raise ValueError("V names no defined combination")
    if kind >= 1:
        context += map_address(src_ip)
    if kind == 2:
        context += map_address(dst_ip)
    fixed = bytes([LABEL, v, 0x00]) + context + key_bits.to_bytes(2, "big")
    return counter_inputs(fixed, key_bits // 8)


def nonce(id: bytes, epoch: int, counter: int) -> bytes:
    """Salt(4) || Epoch(2) || Counter(6). The salt of an 8-octet ID is the XOR of its halves."""
    salt = id if len(id) == 4 else bytes(a ^ b for a, b in zip(id[:4], id[4:]))
    return salt + epoch.to_bytes(2, "big") + counter.to_bytes(6, "big")
