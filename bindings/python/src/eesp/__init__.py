# SPDX-License-Identifier: BSD-3-Clause
"""Stateless packet encryption in bursts: libeesp for Python.

    with eesp.TrustGroup() as group:
        group.generate_root_key(eesp.Level.ZONE, b"example zone 01.")
        with eesp.Sender(group, id=7, options=True) as sender, eesp.Receiver(group) as receiver:
            sealed = sender.seal([b"one", b"two"])
            opened = receiver.open(sealed)
            print(opened.good, bytes(opened[1]))

The library is loaded when this package is imported: the bundled one, or the file that EESP_LIBRARY names.
"""

from ._abi import ICV_LEN, MAX_HEADER, MAX_LEN, MIN_HEADER, ROOT_KEY_LEN, UDP_PORT
from ._types import (
    Address,
    AddressPair,
    Aead,
    Buffer,
    Clock,
    Combiner,
    Context,
    Counter,
    Explicit,
    Generation,
    Level,
    Levels,
    Opened,
    Profile,
    Reserved,
    RootKeyInfo,
    Stats,
    Status,
    V,
)
from ._version import __version__
from .errors import (
    ArgumentError,
    AuthenticationError,
    BackendError,
    ContextError,
    CounterError,
    EespError,
    ExistsError,
    ForkedError,
    HeaderError,
    InternalError,
    LockedMemoryError,
    NoKeyError,
    NotFoundError,
    PacketError,
    ReflectedError,
    ReplayError,
    RootKeyError,
    UnsupportedError,
)
from .header import Header, MasterKeyOption
from .library import backend, backends, library_path, library_version, select_backend, self_test, thread_init
from .objects import DataKey, Proxy, Receiver, Sender, TrustGroup, derive_keys
from .packets import Addresses, Packets, PacketsLike, Result
from .secret import Keys, Secret

__all__ = [
    "ICV_LEN",
    "MAX_HEADER",
    "MAX_LEN",
    "MIN_HEADER",
    "ROOT_KEY_LEN",
    "UDP_PORT",
    "Address",
    "AddressPair",
    "Addresses",
    "Aead",
    "ArgumentError",
    "AuthenticationError",
    "BackendError",
    "Buffer",
    "Clock",
    "Combiner",
    "Context",
    "ContextError",
    "Counter",
    "CounterError",
    "DataKey",
    "EespError",
    "ExistsError",
    "Explicit",
    "ForkedError",
    "Generation",
    "Header",
    "HeaderError",
    "InternalError",
    "Keys",
    "Level",
    "Levels",
    "LockedMemoryError",
    "MasterKeyOption",
    "NoKeyError",
    "NotFoundError",
    "Opened",
    "PacketError",
    "Packets",
    "PacketsLike",
    "Profile",
    "Proxy",
    "Receiver",
    "ReflectedError",
    "ReplayError",
    "Reserved",
    "Result",
    "RootKeyError",
    "RootKeyInfo",
    "Secret",
    "Sender",
    "Stats",
    "Status",
    "TrustGroup",
    "UnsupportedError",
    "V",
    "__version__",
    "backend",
    "backends",
    "derive_keys",
    "library_path",
    "library_version",
    "select_backend",
    "self_test",
    "thread_init",
]
