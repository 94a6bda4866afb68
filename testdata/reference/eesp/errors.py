"""Why a packet is refused."""

from common.errors import BaseReason


class Reason(BaseReason):
    """Members are in the order in which the checks are made, but for `short`, which is first and after `header_len`."""

    SHORT = "short"
    VERSION = "version"
    RESERVED = "reserved"
    NO_KEY = "no_key"
    HEADER_LEN = "header_len"
    OPTION = "option"
    SESSION = "session"
    OFFSET = "offset"
    SEQUENCE = "sequence"
    AUTH = "auth"
    PAYLOAD = "payload"
    DUMMY = "dummy"
