"""Reference implementation of profile `tss`, for generating test vectors.

It is written from the format description alone, to be read beside it. It must never be used to protect real traffic.
"""

from .errors import Reason
from .header import Header, encode_header, parse_header
from .lead import Lead
from .packet import Domain, Opened, Receiver, open_packet, seal
from .schedule import Mode, Rekey, derive, nonce

__all__ = [
    "Domain",
    "Header",
    "Lead",
    "Mode",
    "Opened",
    "Reason",
    "Receiver",
    "Rekey",
    "derive",
    "encode_header",
    "nonce",
    "open_packet",
    "parse_header",
    "seal",
]
