"""Why a packet is refused. Every profile has an enumeration of its own reasons, in the order of its checks."""

import enum


class BaseReason(str, enum.Enum):
    """The reason a packet is refused; the value is its name in the vectors."""


class Refused(Exception):
    """A received packet is refused."""

    def __init__(self, reason: BaseReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
