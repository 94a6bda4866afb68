"""Reference implementation of profile `psp`, for generating test vectors.

It is written from the format description alone, to be read beside it. It must never be used to protect real traffic.
"""

from .errors import Reason
from .header import Header, encode_header, parse_header
from .packet import Opened, Receiver, derive, nonce, open_packet, seal

__all__ = [
    "Header",
    "Opened",
    "Reason",
    "Receiver",
    "derive",
    "encode_header",
    "nonce",
    "open_packet",
    "parse_header",
    "seal",
]
