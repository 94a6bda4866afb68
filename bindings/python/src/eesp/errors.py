# SPDX-License-Identifier: BSD-3-Clause
"""Exceptions: one class for each kind of error, each with the library's status."""

from __future__ import annotations

from . import _abi
from ._types import Status


class EespError(Exception):
    """The base of all of them."""

    def __init__(self, status: Status, detail: str = "") -> None:
        self.status = status
        self.detail = detail
        text = status.describe()
        if detail and not detail.startswith(text):
            text = f"{text}: {detail}"
        super().__init__(detail if detail.startswith(text) else text)

    def __reduce__(self) -> tuple[type[EespError], tuple[Status, str]]:
        return type(self), (self.status, self.detail)


class ArgumentError(EespError, ValueError):
    """An argument is out of range, too small, or contradictory."""


class RootKeyError(ArgumentError):
    """A root key is not valid."""


class PacketError(EespError):
    """A packet was refused."""


class AuthenticationError(PacketError):
    """The ICV is wrong: a forged or damaged packet."""


class ReplayError(PacketError):
    """The packet was seen before, or is older than the replay window."""


class HeaderError(PacketError):
    """A field of the header is wrong; status names it."""


class NoKeyError(PacketError):
    """No root key matches the packet's options."""


class ReflectedError(PacketError):
    """The packet carries an ID that this end sends with."""


class ContextError(PacketError):
    """The packet is not of this data key's context."""


class EpochError(PacketError):
    """The packet's epoch is further behind the group's than epoch_age (profile tss)."""


class PayloadError(PacketError):
    """The packet is authentic, but its content is malformed (profile eesp)."""


class DummyError(PacketError):
    """The packet is authentic, but a dummy packet without payload (profile eesp, Next Header 59)."""


class NoWindowError(PacketError):
    """No replay window is left for a packet of a new context; see Receiver's replay_contexts."""


class EncapsulationError(PacketError):
    """The outer IP or UDP header is not as expected."""


class CounterError(EespError):
    """No counter can be given out: the epoch is used up, the clock stepped back, or the state file fails."""


class ForkedError(EespError, RuntimeError):
    """The library was used in a forked child; start processes with multiprocessing's "spawn"."""

    def __init__(self, status: Status, detail: str = "") -> None:
        super().__init__(status, detail or 'start processes with multiprocessing\'s "spawn", or fork before the import')


class BackendError(EespError):
    """The backend is unknown, this CPU lacks it, or its known-answer test failed."""


class LockedMemoryError(EespError, MemoryError):
    """Memory cannot be allocated or locked; RLIMIT_MEMLOCK may be too low."""


class ExistsError(EespError):
    """There is one already."""


class NotFoundError(EespError, LookupError):
    """There is none."""


class UnsupportedError(EespError):
    """Not offered by this profile or version."""


class InternalError(EespError):
    """A bug in the library; nothing was output."""


class LatchedError(EespError):
    """tss: the group drops packets, since too many were not authentic."""


class FencedError(EespError):
    """Another machine has the IDs of this one: nothing is sealed until the agent assigns others."""


class OutOfTouchError(EespError):
    """The agent or the servers were silent for longer than the group allows: nothing is sealed."""


class AgentError(EespError):
    """There is no agent to follow, or it refuses."""


class DeadlineError(EespError):
    """It was not done within the timeout."""


CLASSES: dict[Status, type[EespError]] = {
    # statuses: begin
    Status.ARGUMENT: ArgumentError,
    Status.AUTH: AuthenticationError,
    Status.REPLAY: ReplayError,
    Status.NO_KEY: NoKeyError,
    Status.SHORT: HeaderError,
    Status.VERSION: HeaderError,
    Status.V: HeaderError,
    Status.RESERVED: HeaderError,
    Status.HEADER_LEN: HeaderError,
    Status.OFFSET: HeaderError,
    Status.OPTION: HeaderError,
    Status.ROOM: ArgumentError,
    Status.TOO_LONG: ArgumentError,
    Status.OVERLAP: ArgumentError,
    Status.EXHAUSTED: CounterError,
    Status.CLOCK: CounterError,
    Status.STATE: CounterError,
    Status.REFLECTED: ReflectedError,
    Status.CONTEXT: ContextError,
    Status.FORKED: ForkedError,
    Status.SELF_TEST: BackendError,
    Status.BACKEND: BackendError,
    Status.MEMORY: LockedMemoryError,
    Status.ROOT_KEY: RootKeyError,
    Status.EXISTS: ExistsError,
    Status.NOT_FOUND: NotFoundError,
    Status.UNSUPPORTED: UnsupportedError,
    Status.INTERNAL: InternalError,
    Status.SEGMENTS: ArgumentError,
    Status.EPOCH: EpochError,
    Status.SESSION: HeaderError,
    Status.SEQUENCE: HeaderError,
    Status.PAYLOAD: PayloadError,
    Status.WINDOWS: NoWindowError,
    Status.ENCAP: EncapsulationError,
    Status.DUMMY: DummyError,
    Status.LATCHED: LatchedError,
    Status.STALE: ReplayError,
    Status.EARLY: ReplayError,
    Status.FULL: NoWindowError,
    Status.FENCED: FencedError,
    Status.OUT_OF_TOUCH: OutOfTouchError,
    Status.AGENT: AgentError,
    Status.TIMEOUT: DeadlineError,
    Status.FLOODED: NoKeyError,
    # statuses: end
}


def error_of(status: int, detail: str = "") -> EespError:
    """Returns the exception for a status. A status of a later library is an InternalError."""
    try:
        known = Status(status)
    except ValueError:
        return InternalError(Status.INTERNAL, f"status {status} is not known to this version")
    return CLASSES[known](known, detail)


def check(status: int) -> None:
    """Raises what a failed call returned, with the thread's last error message."""
    if status:
        text: bytes = _abi.LIB.eesp_last_error()
        raise error_of(status, "" if status == Status.FORKED else text.decode(errors="backslashreplace"))


def check_not_forked() -> None:
    """Raises ForkedError in a forked child. For results of functions that have no status to report it."""
    if _abi.LIB.eesp_thread_init() == Status.FORKED:
        raise error_of(Status.FORKED)
