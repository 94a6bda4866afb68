"""Reference implementation of profile `stateless`, for generating test vectors.

It is written from the format description alone, to be read beside it. It makes no attempt to run in constant time or
to be fast: it must never be used to protect real traffic.
"""

from common.primitives import Aead

from .errors import CombineError, Reason, Refused, RootKeyError
from .group import Combiner, Generation, Group, KeyUse, combine
from .header import Header, Level, MasterKeyOption, encode_header, parse_header
from .kdf import kdf_inputs, nonce
from .packet import Opened, Sealed, open_packet, seal
from .rootkey import RootKey, decode_root_key, encode_root_key

__all__ = [
    "Aead",
    "CombineError",
    "Combiner",
    "Generation",
    "Group",
    "Header",
    "KeyUse",
    "Level",
    "MasterKeyOption",
    "Opened",
    "Reason",
    "Refused",
    "RootKey",
    "RootKeyError",
    "Sealed",
    "combine",
    "decode_root_key",
    "encode_header",
    "encode_root_key",
    "kdf_inputs",
    "nonce",
    "open_packet",
    "parse_header",
    "seal",
]
