"""Why a packet is refused."""

from common.errors import BaseReason


class Reason(BaseReason):
    """Members are in the order in which the checks are made, but for `short`, which is first and fourth."""

    SHORT = "short"
    VERSION = "version"
    RESERVED = "reserved"
    HEADER_LEN = "header_len"
    OFFSET = "offset"
    NO_KEY = "no_key"
    AUTH = "auth"
