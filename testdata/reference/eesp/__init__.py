"""Reference implementation of profile `eesp`, for generating test vectors.

It is written from the format description alone, to be read beside it. It must never be used to protect real traffic.
"""

from common.primitives import Aead

from .errors import Reason
from .header import Encap, Header, Sa, encode_header, parse_header
from .options import CryptOffset, encode_options, parse_options
from .packet import Opened, SealedText, open_packet, seal
from .sskdf import Sskdf, derive
from .text import encode_text, parse_text

__all__ = [
    "Aead",
    "CryptOffset",
    "Encap",
    "Header",
    "Opened",
    "Reason",
    "Sa",
    "SealedText",
    "Sskdf",
    "derive",
    "encode_header",
    "encode_options",
    "encode_text",
    "open_packet",
    "parse_header",
    "parse_options",
    "parse_text",
    "seal",
]
