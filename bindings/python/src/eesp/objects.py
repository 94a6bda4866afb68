# SPDX-License-Identifier: BSD-3-Clause
"""Trust groups, senders, receivers and proxies."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Sequence
from ctypes import byref
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from . import _abi
from ._types import (
    Address,
    Aead,
    Buffer,
    Clock,
    Combiner,
    Context,
    Counter,
    Explicit,
    Level,
    Levels,
    Offsets,
    Opened,
    Profile,
    RootKeyInfo,
    Stats,
    Status,
    V,
    address,
)
from .errors import check
from .packets import (
    Addresses,
    Packets,
    PacketsLike,
    Result,
    address_of,
    as_packets,
    check_rooms,
    octets_of,
    place_results,
    run_burst,
    run_one,
)
from .secret import Keys, Secret

_LIB = _abi.LIB
# How much longer an opened packet is, at most.
_OPENED = -_abi.MIN_HEADER - _abi.ICV_LEN
_Self = TypeVar("_Self", bound="_Object")
_R = TypeVar("_R")


class _Handle:
    """A C object. It is freed with the last reference, so never while a call in another thread uses it."""

    __slots__ = ("pointer", "_free", "needs")

    def __init__(self, pointer: int, free: Callable[[int], None], needs: tuple[_Handle, ...] = ()) -> None:
        self.pointer, self._free, self.needs = pointer, free, needs

    def __del__(self) -> None:
        self._free(self.pointer)


class _Object:
    """What all objects have: close(), and a with block that does it."""

    _handle: _Handle | None = None

    def _make(self, free: str, new: Callable[[Any], Any], needs: tuple[_Handle, ...] = ()) -> None:
        pointer = ctypes.c_void_p()
        check(new(byref(pointer)))
        assert pointer.value is not None
        self._handle = _Handle(pointer.value, getattr(_LIB, free), needs)

    def _open(self) -> _Handle:
        """The handle, for the caller to hold during the call."""
        handle = self._handle
        if handle is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return handle

    def _call(self, function: Callable[..., _R], *args: Any, **options: Any) -> _R:
        """Calls function(pointer, ...). The handle is held just as long: a traceback must not keep keys alive."""
        handle = self._open()
        try:
            return function(handle.pointer, *args, **options)
        finally:
            del handle

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._handle is None

    def close(self) -> None:
        """Gives the object back, when calls in other threads have ended. Keys that nothing else uses are wiped."""
        self._handle = None

    def __enter__(self: _Self) -> _Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} belongs to its process and is not pickled")


def _unsigned(value: int, bits: int, name: str) -> int:
    """ctypes cuts off what does not fit; this refuses it."""
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name} must be from 0 to 2^{bits}-1")
    return value


def _addr(src: Address, dst: Address) -> _abi.Addr:
    return _abi.Addr.from_buffer_copy(address(src) + address(dst))


def _context(context: Context) -> _abi.Context:
    return _abi.Context(
        id=_unsigned(context.id, 64, "id"),
        epoch=_unsigned(context.epoch, 16, "epoch"),
        v=_unsigned(context.v, 8, "v"),
        levels=_unsigned(context.levels, 8, "levels"),
        generation=_unsigned(context.generation, 8, "generation"),
        addr=_addr(context.src, context.dst),
    )


class TrustGroup(_Object):
    """Root keys at up to three levels, each a ring of previous, current and next key."""

    def __init__(
        self,
        *,
        profile: Profile = Profile.STATELESS,
        aead: Aead = Aead.AES_128_GCM,
        combiner: Combiner = Combiner.HKDF,
    ) -> None:
        self.profile, self.aead, self.combiner = Profile(profile), Aead(aead), Combiner(combiner)
        config = _abi.GroupConfig(
            struct_size=ctypes.sizeof(_abi.GroupConfig), profile=self.profile, aead=self.aead, combiner=self.combiner
        )
        self._make("eesp_group_free", lambda made: _LIB.eesp_group_new(byref(config), made))

    def set_root_key_der(self, level: Level, der: Buffer) -> None:
        """Puts a root key, encoded as RootKeyStruct, at a level; one that is there is replaced."""
        view = octets_of(der, "der")
        check(self._call(_LIB.eesp_group_set_root_key_der, level, address_of(view), len(view)))

    def set_root_key(self, level: Level, id: bytes, index: Sequence[int], value: Sequence[Buffer]) -> None:
        """The same from its parts. index and value: previous, current, next."""
        if len(index) != 3 or len(value) != 3:
            raise ValueError("three indices and three values are needed: previous, current, next")
        indices = (ctypes.c_uint64 * 3)(*(_unsigned(i, 64, "index") for i in index))
        views = [octets_of(v, "value") for v in value]
        if any(len(v) != _abi.ROOT_KEY_LEN for v in views):
            raise ValueError(f"a value has {_abi.ROOT_KEY_LEN} octets")
        with Secret(3 * _abi.ROOT_KEY_LEN) as values:
            octets = memoryview(values)
            for i, view in enumerate(views):
                octets[i * _abi.ROOT_KEY_LEN : (i + 1) * _abi.ROOT_KEY_LEN] = view
            check(
                self._call(
                    _LIB.eesp_group_set_root_key, level, bytes(id), len(id), byref(indices), address_of(octets)
                )
            )

    def generate_root_key(self, level: Level, id: bytes) -> None:
        """The same with random values and indices 1, 1, 2 (no previous key)."""
        check(self._call(_LIB.eesp_group_generate_root_key, level, bytes(id), len(id)))

    def root_key_der(self, level: Level) -> Secret:
        """A level's root key as RootKeyStruct."""
        read, size = _LIB.eesp_group_get_root_key_der, ctypes.c_size_t(0)
        status = self._call(read, level, None, byref(size))
        while status == Status.ROOM:  # again, if it was replaced by a longer one meanwhile
            der = Secret(size.value)
            status = self._call(read, level, address_of(memoryview(der)), byref(size))
        check(status)
        if len(der) != size.value:
            with der:
                return Secret(memoryview(der)[: size.value])
        return der

    def root_key_info(self, level: Level) -> RootKeyInfo:
        """The public part of a level's root key."""
        info = _abi.RootKeyInfo()
        check(self._call(_LIB.eesp_group_get_root_key_info, Level(level), byref(info)))
        previous, current, following = info.index
        return RootKeyInfo(bytes(info.id)[: info.id_len], previous, current, following, bool(info.has_previous))

    def rotate(self, level: Level, index: int, value: Buffer | None = None) -> None:
        """Makes value (None: a random one) the next key, next the current, current the previous one."""
        view = None if value is None else octets_of(value, "value")
        if view is not None and len(view) != _abi.ROOT_KEY_LEN:
            raise ValueError(f"a value has {_abi.ROOT_KEY_LEN} octets")
        at = None if view is None else address_of(view)
        check(self._call(_LIB.eesp_group_rotate, level, _unsigned(index, 64, "index"), at))

    def remove_root_key(self, level: Level) -> None:
        """Removes a level's root key; it is wiped when the last burst that uses it has ended."""
        check(self._call(_LIB.eesp_group_remove_root_key, level))

    def set_default_levels(self, levels: Levels) -> None:
        """Says which levels packets without Master Key Options use."""
        check(self._call(_LIB.eesp_group_set_default_levels, _unsigned(levels, 32, "levels")))

    def derive_keys(self, contexts: Iterable[Context]) -> Keys:
        """The data keys of contexts."""
        made = [_context(c) for c in contexts]
        keys = Secret(self.aead.key_len * len(made))
        self._derive((_abi.Context * len(made))(*made), len(made), memoryview(keys))
        return Keys(keys, self.aead.key_len)

    def _derive(self, contexts: Any, count: int, keys: memoryview) -> None:
        check(self._call(_LIB.eesp_derive_keys, contexts, count, address_of(keys), len(keys)))

    def export_data_key(self, context: Context, *, options: bool = True) -> DataKey:
        """One context's data key, to hand to an end that must not hold root keys."""
        raw = _WipedKey()
        check(self._call(_LIB.eesp_data_key_export, byref(_context(context)), int(options), byref(raw)))
        return DataKey._of(raw)

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<TrustGroup {self.profile.name}, {self.aead.name}, {self.combiner.name}{state}>"


def derive_keys(group: TrustGroup, contexts: Iterable[Context]) -> Keys:
    """The data keys of contexts: as TrustGroup.derive_keys."""
    return group.derive_keys(contexts)


class _WipedKey(_abi.DataKey):
    """Wiped when nothing uses it any more; views of the key keep it."""

    def __del__(
        self, wipe: Callable[[Any, int, int], Any] = ctypes.memset, size: int = ctypes.sizeof(_abi.DataKey)
    ) -> None:
        wipe(ctypes.addressof(self), 0, size)


class DataKey:
    """The data key of one context. Its octets are secret, and wiped with it."""

    __slots__ = ("_raw",)

    _raw: _abi.DataKey

    def __init__(
        self,
        *,
        id: int,
        epoch: int,
        key: Buffer,
        v: V = V.ID,
        src: Address = bytes(16),
        dst: Address = bytes(16),
        options: bytes = b"",
    ) -> None:
        octets = octets_of(key, "key")
        if len(octets) not in (16, 32):
            raise ValueError("a data key has 16 or 32 octets")
        if len(options) > _abi.MAX_OPTIONS:
            raise ValueError(f"options have at most {_abi.MAX_OPTIONS} octets")
        raw = _WipedKey(
            id=_unsigned(id, 64, "id"),
            epoch=_unsigned(epoch, 16, "epoch"),
            v=_unsigned(v, 8, "v"),
            key_len=len(octets),
            options_len=len(options),
            addr=_addr(src, dst),
        )
        ctypes.memmove(raw.key, address_of(octets), len(octets))
        ctypes.memmove(raw.options, bytes(options), len(options))
        self._raw = raw

    @classmethod
    def _of(cls, raw: _abi.DataKey) -> DataKey:
        made = cls.__new__(cls)
        made._raw = raw
        return made

    @property
    def id(self) -> int:
        """DeviceID or ConnectionID."""
        return int(self._raw.id)

    @property
    def epoch(self) -> int:
        """The epoch that it is for."""
        return int(self._raw.epoch)

    @property
    def v(self) -> V:
        """What its context is made of."""
        return V(self._raw.v)

    @property
    def src(self) -> bytes:
        """Source address, 16 octets."""
        return bytes(self._raw.addr.src)

    @property
    def dst(self) -> bytes:
        """Destination address, 16 octets."""
        return bytes(self._raw.addr.dst)

    @property
    def options(self) -> bytes:
        """Master Key Options, as in the header."""
        return bytes(self._raw.options)[: self._raw.options_len]

    @property
    def key(self) -> memoryview:
        """The secret octets, where they are: wiped by wipe(), or when neither this object nor a view of them is left."""
        return memoryview(self._raw.key).cast("B")[: self._raw.key_len].toreadonly()

    def wipe(self) -> None:
        """Overwrites all of it with zeros."""
        _LIB.eesp_data_key_wipe(byref(self._raw))
        ctypes.memset(byref(self._raw), 0, ctypes.sizeof(self._raw))

    def __enter__(self) -> DataKey:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")

    def __repr__(self) -> str:
        return f"<DataKey id={self.id:#x} epoch={self.epoch} v={self.v.name}, {self._raw.key_len} octets>"


def _stats(of: _Object, function: Callable[[int, Any], int]) -> Stats:
    raw = _abi.Stats()
    check(of._call(function, byref(raw)))
    return Stats(raw.octets, {status: raw.packets[-status] for status in Status if raw.packets[-status]})


class Sender(_Object):
    """Seals packets under one ID; owns that ID's counters.

    group: a TrustGroup, or a DataKey, which brings ID, V, options and epoch with it. options: packets say which root
    keys were used; set it wherever root keys rotate. engine_bits split the counter space among 2^engine_bits senders of
    one ID, each with its number, engine.
    """

    def __init__(
        self,
        group: TrustGroup | DataKey,
        id: int = 0,
        *,
        v: V = V.ID,
        options: bool = False,
        levels: Levels = Levels.DEFAULT,
        counter: Counter = Clock(),
        engine: int = 0,
        engine_bits: int = 0,
    ) -> None:
        config = _abi.SenderConfig(
            struct_size=ctypes.sizeof(_abi.SenderConfig),
            flags=_abi.SENDER_OPTIONS if options else 0,
            id=_unsigned(id, 64, "id"),
            v=_unsigned(v, 8, "v"),
            levels=_unsigned(levels, 8, "levels"),
            engine=_unsigned(engine, 32, "engine"),
            engine_bits=_unsigned(engine_bits, 8, "engine_bits"),
        )
        if isinstance(counter, Clock):
            config.rate_log2 = _unsigned(counter.rate_log2, 8, "rate_log2")
            if counter.epoch is not None:
                config.flags |= _abi.SENDER_FIXED_EPOCH
                config.epoch = _unsigned(counter.epoch, 16, "epoch")
            if not -(1 << 63) <= counter.epoch_start_ns < 1 << 63:
                raise ValueError("epoch_start_ns must fit in 64 bits")
            config.epoch_start_ns = counter.epoch_start_ns
        elif isinstance(counter, Explicit):
            config.counter_mode = 2
            config.epoch = _unsigned(counter.epoch, 16, "epoch")
            config.start_counter = _unsigned(counter.start, 64, "start")
        else:
            config.counter_mode = 1
            config.epoch = _unsigned(counter.epoch, 16, "epoch")
            config.reserve_run = _unsigned(counter.run, 64, "run")
            path = os.fsencode(counter.path)
            if b"\0" in path:
                raise ValueError("path has a NUL in it")
            config.state_path = path
        if isinstance(group, DataKey):
            raw = group._raw
            self.id, self.v = group.id, group.v
            self._make("eesp_sender_free", lambda made: _LIB.eesp_sender_new_with_key(byref(raw), byref(config), made))
        else:
            handle = group._open()
            self.id, self.v = id, V(v)
            self._make("eesp_sender_free", lambda made: _LIB.eesp_sender_new(handle.pointer, byref(config), made))

    @property
    def header_len(self) -> int:
        """Octets of the header that is written at present, 0 without a key."""
        return int(self._call(_LIB.eesp_sender_header_len))

    @property
    def next_tsc(self) -> int:
        """Epoch(16) | Counter(48) of the next packet, if nothing else is sent first."""
        return int(self._call(_LIB.eesp_sender_next_tsc))

    def _extra(self) -> int:
        return (self.header_len or _abi.MAX_HEADER) + _abi.ICV_LEN

    def sealed_size(self, payloads: PacketsLike) -> int:
        """The octets that seal_into needs for these payloads at present."""
        return as_packets(payloads)._layout(self._extra())[2]

    def seal(
        self,
        payloads: PacketsLike,
        *,
        coffset: Offsets = 0,
        ioffset: Offsets = 0,
        addresses: Addresses | None = None,
    ) -> Result:
        """Seals payloads into a new buffer. coffset, ioffset, addresses: for all, or one for each packet."""
        return self._seal(payloads, None, coffset, ioffset, addresses)

    def seal_into(
        self,
        payloads: PacketsLike,
        out: Buffer | Packets,
        *,
        coffset: Offsets = 0,
        ioffset: Offsets = 0,
        addresses: Addresses | None = None,
    ) -> Result:
        """Seals payloads into a buffer of yours, side by side, or into the places that Packets name."""
        return self._seal(payloads, out, coffset, ioffset, addresses)

    def _seal(
        self,
        payloads: PacketsLike,
        out: Buffer | Packets | None,
        coffset: Offsets,
        ioffset: Offsets,
        addresses: Addresses | None,
    ) -> Result:
        source = as_packets(payloads)
        places = place_results(source, out, self._extra())
        return self._call(
            run_burst,
            _LIB.eesp_seal_burst,
            source,
            out=places,
            coffset=coffset,
            ioffset=ioffset,
            addresses=addresses,
        )

    def seal_in_place(
        self,
        payloads: Packets,
        *,
        headroom: int | None = None,
        tailroom: int = _abi.ICV_LEN,
        coffset: Offsets = 0,
        ioffset: Offsets = 0,
        addresses: Addresses | None = None,
    ) -> Result:
        """Seals payloads where they are: header in front, ICV behind. headroom: header_len octets if not given."""
        room = (self.header_len or _abi.MAX_HEADER) if headroom is None else headroom
        check_rooms(payloads, room, tailroom)
        return self._call(
            run_burst,
            _LIB.eesp_seal_burst,
            payloads,
            headroom=room,
            tailroom=tailroom,
            coffset=coffset,
            ioffset=ioffset,
            addresses=addresses,
        )

    def seal_one(
        self, payload: Buffer, *, coffset: int = 0, ioffset: int = 0, addresses: Addresses | None = None
    ) -> bytes:
        """Seals one packet; raises if it cannot."""
        made = self._call(run_one, _LIB.eesp_seal_burst, payload, self._extra(), coffset, ioffset, addresses)
        return bytes(made[0])

    def stats(self) -> Stats:
        """What it has sealed so far."""
        return _stats(self, _LIB.eesp_sender_stats)

    def __repr__(self) -> str:
        return f"<Sender id={self.id:#x} v={self.v.name}{' closed' if self.closed else ''}>"


class Receiver(_Object):
    """Opens packets of one or more groups, or of one DataKey.

    own_ids: IDs that this end sends with, refused on receipt. try_previous: packets without options are tried with the
    previous root keys too, at double the cost of a forged packet.
    """

    def __init__(
        self,
        groups: TrustGroup | DataKey | Sequence[TrustGroup],
        *,
        own_ids: Iterable[int] = (),
        try_previous: bool = False,
    ) -> None:
        ids = [_unsigned(i, 64, "own_ids") for i in own_ids]
        own = (ctypes.c_uint64 * len(ids))(*ids)
        config = _abi.ReceiverConfig(
            struct_size=ctypes.sizeof(_abi.ReceiverConfig),
            flags=_abi.RECEIVER_TRY_PREVIOUS if try_previous else 0,
            own_ids=own if ids else None,
            own_id_count=len(ids),
        )
        if isinstance(groups, DataKey):
            raw = groups._raw
            self._make(
                "eesp_receiver_free", lambda made: _LIB.eesp_receiver_new_with_key(byref(raw), byref(config), made)
            )
            return
        handles = [group._open() for group in ([groups] if isinstance(groups, TrustGroup) else groups)]
        pointers = (ctypes.c_void_p * len(handles))(*(handle.pointer for handle in handles))
        self._make(
            "eesp_receiver_free", lambda made: _LIB.eesp_receiver_new(pointers, len(handles), byref(config), made)
        )

    def opened_size(self, packets: PacketsLike) -> int:
        """The octets that open_into needs for these packets: their lengths less the shortest header and the ICV."""
        return as_packets(packets)._layout(_OPENED)[2]

    def open(self, packets: PacketsLike, *, addresses: Addresses | None = None) -> Result:
        """Opens packets into a new buffer."""
        return self._open_burst(packets, None, addresses)

    def open_into(
        self, packets: PacketsLike, out: Buffer | Packets, *, addresses: Addresses | None = None
    ) -> Result:
        """Opens packets into a buffer of yours, side by side, or into the places that Packets name."""
        return self._open_burst(packets, out, addresses)

    def _open_burst(
        self, packets: PacketsLike, out: Buffer | Packets | None, addresses: Addresses | None
    ) -> Result:
        source = as_packets(packets)
        places = place_results(source, out, _OPENED)
        return self._call(run_burst, _LIB.eesp_open_burst, source, out=places, addresses=addresses)

    def open_in_place(self, packets: Packets, *, addresses: Addresses | None = None) -> Result:
        """Opens packets where they are."""
        check_rooms(packets, 0, 0)
        return self._call(run_burst, _LIB.eesp_open_burst, packets, addresses=addresses)

    def open_one(self, packet: Buffer, *, addresses: Addresses | None = None) -> Opened:
        """Opens one packet; raises AuthenticationError, HeaderError, ... if it is refused."""
        payload, id, tsc, coffset, ioffset = self._call(
            run_one, _LIB.eesp_open_burst, packet, _OPENED, addresses=addresses
        )
        return Opened(bytes(payload), id, tsc >> 48, tsc & (1 << 48) - 1, coffset, ioffset)

    def stats(self) -> Stats:
        """What it has opened so far."""
        return _stats(self, _LIB.eesp_receiver_stats)

    def __repr__(self) -> str:
        return f"<Receiver{' closed' if self.closed else ''}>"


class Proxy(_Object):
    """Joins two trust domains: opens packets with a receiver and seals them anew with a sender, in one call."""

    def __init__(self, receiver: Receiver, sender: Sender) -> None:
        needs = receiver._open(), sender._open()
        self._make(
            "eesp_proxy_free", lambda made: _LIB.eesp_proxy_new(needs[0].pointer, needs[1].pointer, made), needs
        )

    def _extra(self) -> int:
        handle = self._open()
        try:
            header: int = _LIB.eesp_sender_header_len(handle.needs[1].pointer)
            return (header or _abi.MAX_HEADER) - _abi.MIN_HEADER
        finally:
            del handle

    def pass_on(
        self,
        packets: PacketsLike,
        out: Buffer | Packets | None = None,
        *,
        addresses: Addresses | None = None,
        out_addresses: Addresses | None = None,
    ) -> Result:
        """Opens with addresses and seals with out_addresses (not given: the same), into a new buffer or yours.

        ids and tscs are those of the packets that came in.
        """
        source = as_packets(packets)
        places = place_results(source, out, self._extra())
        return self._call(
            run_burst,
            _LIB.eesp_proxy_burst,
            source,
            out=places,
            addresses=addresses,
            out_addresses=out_addresses,
        )

    def __repr__(self) -> str:
        return f"<Proxy{' closed' if self.closed else ''}>"
