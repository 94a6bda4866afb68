"""RootKeyStruct in DER, strictly: only the one encoding DER allows is read.

    SEQUENCE { OCTET STRING root_key_id (16..32),
               SEQUENCE (SIZE(3)) OF INTEGER,
               SEQUENCE (SIZE(3)) OF OCTET STRING (32) }      in the order pre, current, next
"""

from dataclasses import dataclass

from .errors import RootKeyError

TAG_INTEGER = 0x02
TAG_OCTETS = 0x04
TAG_SEQUENCE = 0x30

MIN_ID, MAX_ID = 16, 32
VALUE_LEN = 32
# The draft sets no bound; this one fits a signed 64-bit integer.
MAX_INDEX = 2**63 - 1


@dataclass(frozen=True)
class RootKey:
    """One root key ring: three generations, in the order pre, current, next."""

    root_key_id: bytes
    indices: tuple[int, int, int]
    values: tuple[bytes, bytes, bytes]

    def check(self) -> None:
        """Raises RootKeyError unless every rule on sizes and indices holds."""
        if not MIN_ID <= len(self.root_key_id) <= MAX_ID:
            raise RootKeyError("root_key_id is not 16 to 32 octets")
        if len(self.indices) != 3 or len(self.values) != 3:
            raise RootKeyError("there are not three generations")
        if any(not 0 <= index <= MAX_INDEX for index in self.indices):
            raise RootKeyError("a root key index is out of range")
        if any(len(value) != VALUE_LEN for value in self.values):
            raise RootKeyError("a root key value is not 32 octets")
        pre, current, following = (index & 0xFF for index in self.indices)
        if following in (pre, current):
            raise RootKeyError("the index of next equals another one modulo 256")
        # A ring without a pre repeats its current there, whole; any other collision would make the octet on the
        # wire ambiguous.
        repeats = self.indices[0] == self.indices[1] and self.values[0] == self.values[1]
        if pre == current and not repeats:
            raise RootKeyError("the indices of pre and current are equal modulo 256")


def encode_tlv(tag: int, content: bytes) -> bytes:
    """One DER element."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def encode_integer(value: int) -> bytes:
    """One DER INTEGER, in the fewest octets."""
    size = 1
    while not -(1 << (8 * size - 1)) <= value < 1 << (8 * size - 1):
        size += 1
    return encode_tlv(TAG_INTEGER, value.to_bytes(size, "big", signed=True))


def encode_root_key(key: RootKey) -> bytes:
    """The DER of a root key that keeps the rules."""
    key.check()
    indices = b"".join(encode_integer(index) for index in key.indices)
    values = b"".join(encode_tlv(TAG_OCTETS, value) for value in key.values)
    content = encode_tlv(TAG_OCTETS, key.root_key_id)
    content += encode_tlv(TAG_SEQUENCE, indices)
    content += encode_tlv(TAG_SEQUENCE, values)
    return encode_tlv(TAG_SEQUENCE, content)


def take_tlv(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """Splits the first element, which must have this tag, into its content and what follows."""
    if len(data) < 2:
        raise RootKeyError("the structure ends early")
    if data[0] != tag:
        raise RootKeyError(f"tag {data[0]:#04x} where {tag:#04x} is expected")
    size, start = data[1], 2
    if size & 0x80:
        count = size & 0x7F
        if count == 0:
            raise RootKeyError("indefinite length")
        start += count
        if len(data) < start:
            raise RootKeyError("the structure ends early")
        size = int.from_bytes(data[2:start], "big")
        if size < 0x80 or data[2] == 0:
            raise RootKeyError("a length is not minimal")
    if len(data) - start < size:
        raise RootKeyError("a length goes beyond the structure")
    return data[start : start + size], data[start + size :]


def decode_integer(content: bytes) -> int:
    """The value of a DER INTEGER's content octets."""
    if not content:
        raise RootKeyError("an INTEGER is empty")
    if len(content) > 1 and (
        (content[0] == 0x00 and content[1] < 0x80) or (content[0] == 0xFF and content[1] >= 0x80)
    ):
        raise RootKeyError("an INTEGER is not minimal")
    return int.from_bytes(content, "big", signed=True)


def take_three(data: bytes, tag: int) -> tuple[tuple[bytes, bytes, bytes], bytes]:
    """Splits off a SEQUENCE of exactly three elements of one tag."""
    content, rest = take_tlv(data, TAG_SEQUENCE)
    first, content = take_tlv(content, tag)
    second, content = take_tlv(content, tag)
    third, content = take_tlv(content, tag)
    if content:
        raise RootKeyError("a SEQUENCE has more than three elements")
    return (first, second, third), rest


def decode_root_key(der: bytes) -> RootKey:
    """Reads a root key; raises RootKeyError for anything but valid DER that keeps the rules."""
    content, rest = take_tlv(der, TAG_SEQUENCE)
    if rest:
        raise RootKeyError("data follows the structure")
    root_key_id, content = take_tlv(content, TAG_OCTETS)
    raw, content = take_three(content, TAG_INTEGER)
    values, content = take_three(content, TAG_OCTETS)
    if content:
        raise RootKeyError("the structure has a fourth element")
    indices = (decode_integer(raw[0]), decode_integer(raw[1]), decode_integer(raw[2]))
    key = RootKey(root_key_id, indices, values)
    key.check()
    return key
