"""Why a packet is refused."""

from common.errors import BaseReason


class Reason(BaseReason):
    """Members are in the order in which the checks are made, but for `short`, which is first and after `no_key`."""

    SHORT = "short"
    VERSION = "version"
    RESERVED = "reserved"
    NO_KEY = "no_key"
    OFFSET = "offset"
    UNSUPPORTED = "unsupported"
    REFLECTED = "reflected"
    EPOCH = "epoch"
    AUTH = "auth"
