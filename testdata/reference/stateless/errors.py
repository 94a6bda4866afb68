"""Why a packet, a root key or a combination of root keys is refused."""

from common.errors import BaseReason, Refused

__all__ = ["CombineError", "Reason", "Refused", "RootKeyError"]


class Reason(BaseReason):
    """The reason a packet is refused. Members are in the order in which the checks are made, `auth` last."""

    VERSION = "version"
    V = "v"
    RESERVED = "reserved"
    HEADER_LEN = "header_len"
    SHORT = "short"
    OPTION = "option"
    OFFSET = "offset"
    NO_KEY = "no_key"
    REFLECTED = "reflected"
    AUTH = "auth"


class RootKeyError(ValueError):
    """A root key structure is not valid."""


class CombineError(ValueError):
    """The root keys of the present levels cannot be combined. `reason` is "equal", "zero" or "none"."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
