# SPDX-License-Identifier: BSD-3-Clause
"""Trust groups, senders, receivers and proxies."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Sequence
from ctypes import byref
from types import TracebackType
from typing import Any, Literal, NoReturn, SupportsIndex, TypeVar

from . import _abi
from ._types import (
    Address,
    Aead,
    AnyV,
    Buffer,
    Client,
    Clock,
    Combiner,
    Context,
    DomainStats,
    Counter,
    Encap,
    Explicit,
    FollowInfo,
    Generation,
    Level,
    Levels,
    Offsets,
    Opened,
    Profile,
    PspVersion,
    ReplayStats,
    Reserved,
    RootKeyInfo,
    Sskdf,
    Stats,
    Status,
    TssMode,
    TssV,
    Udp,
    UdpMode,
    Usage,
    V,
    address,
    v_member,
    v_number,
)
from .errors import AuthenticationError, check, check_not_forked
from .header import Header
from .packets import (
    Addresses,
    ChainedResult,
    Chains,
    Families,
    Fronts,
    Leads,
    Packets,
    PacketsLike,
    Result,
    address_of,
    as_packets,
    check_rooms,
    fronts_of,
    lead_of,
    need,
    octets_of,
    place_results,
    run_burst,
    run_chains,
    run_one,
)
from .secret import Keys, Secret

_LIB = _abi.LIB
# Profiles whose packets say which protocol their payload is of.
_TELL_NEXT = (Profile.PSP, Profile.EESP)
# Octets of headers: the shortest ones but for tss, which has MIN_HEADER, and those of IP and UDP.
_SHORTEST = 16
_IPV4, _IPV6, _UDP = 20, 40, 8
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
    """The base of all objects: close(), also at the end of a with block."""

    _handle: _Handle | None = None

    def _make(self, free: str, new: Callable[[Any], Any], needs: tuple[_Handle, ...] = ()) -> None:
        pointer = ctypes.c_void_p()
        check(new(byref(pointer)))
        assert pointer.value is not None
        self._handle = _Handle(pointer.value, getattr(_LIB, free), needs)

    def _open(self) -> _Handle:
        """Returns the handle, which the caller holds during a call."""
        handle = self._handle
        if handle is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return handle

    def _call(self, function: Callable[..., _R], *args: Any, **options: Any) -> _R:
        """Calls function(pointer, ...). It holds the handle only meanwhile: a traceback must not keep keys alive."""
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
        """Frees the object when calls in other threads have ended. Keys that nothing else uses are wiped."""
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
    """Refuses numbers that do not fit; ctypes would truncate them."""
    need(value, SupportsIndex, name)
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name} must be from 0 to 2^{bits}-1")
    return value


def _level(level: Level) -> Level:
    """Refuses numbers that are no level; ctypes would truncate them to another level."""
    need(level, SupportsIndex, "level")
    return Level(level)


def _name(id: Buffer) -> bytes:
    return bytes(octets_of(id, "id"))


def _addr(src: Address | None, dst: Address | None, v: object = None) -> _abi.Addr:
    """Returns both addresses for C. Missing ones are zeros; those that v asks for must be given."""
    needed = v.addresses if isinstance(v, V) else int(isinstance(v, TssV) and v is not TssV.SSI)
    if needed and src is None or needed > 1 and dst is None:
        raise ValueError(f"{_named(v)}: {'src and dst are' if needed > 1 else 'src is'} needed")
    return _abi.Addr.from_buffer_copy(b"".join(bytes(16) if a is None else address(a) for a in (src, dst)))


def _milliseconds(seconds: float) -> int:
    need(seconds, (int, float), "timeout")
    if not 0 <= seconds < 1 << 22:
        raise ValueError("a timeout is 0 or more seconds, at most some weeks")
    return round(seconds * 1000)


def _named(v: object) -> str:
    return f"v={v.name}" if isinstance(v, (V, TssV)) else ""


def _needs_addresses(v: object, addresses: Addresses | None) -> None:
    """Refuses missing addresses if v asks for them: with zeros, packets would not open at the other end."""
    if isinstance(v, V) and v.addresses and addresses is None:
        raise ValueError(f"{_named(v)}: addresses are needed, those of the outer packets")


def _opened(profile: Profile) -> int:
    """By how many octets an opened packet differs from the received one at least: a negative number."""
    return -(_abi.MIN_HEADER if profile is Profile.TSS else _SHORTEST) - _abi.ICV_LEN


class TrustGroup(_Object):
    """The keys that both ends share, and the packet format (profile).

    stateless: root keys at up to three levels, each a ring of previous, current and next key. Other profiles: keys in
    slots. aead: AES-128-GCM by default (tss: AES-256-GCM only). Arguments of another profile are refused:

    stateless: combiner. psp: versions (those allowed; by default the GCM version with aead's key length).
    tss: domain (SDI), mode, rekey_mask, rekey_shift, crypt_offset (octets in clear, counted from the start of the header;
    0: the header only), epoch_age (how far a packet's epoch may be behind; 0: 16), counter_limit (0: 2^48),
    auth_failure_limit (after this many packets that were not authentic, receivers drop all; 0: never), direction_bit
    (server mode; False for peers without it: nonces of both ends then repeat).
    eesp: domain (SPI), mode, sequence and iv (whether packets carry them), optimized (no Payload Info Header), align8,
    max_coffset, sub_sas (0: 65,536), draft (2 or 3; 3 by default), encap (draft -03: decides the format).
    """

    def __init__(
        self,
        *,
        profile: Profile = Profile.STATELESS,
        aead: Aead | None = None,
        combiner: Combiner = Combiner.HKDF,
        domain: int = 0,
        mode: TssMode | Sskdf | None = None,
        versions: Iterable[PspVersion] = (),
        rekey_mask: int = 0,
        rekey_shift: int = 0,
        sequence: bool = True,
        iv: bool = False,
        optimized: bool = False,
        align8: bool = False,
        max_coffset: int = 0,
        sub_sas: int = 0,
        draft: int = _abi.DRAFT_DEFAULT,
        encap: Encap = Encap.TRANSPORT,
        time: bool | Literal["late"] = False,
        crypt_offset: int = 0,
        epoch_age: int = 0,
        counter_limit: int = 0,
        auth_failure_limit: int = 0,
        direction_bit: bool = True,
    ) -> None:
        self.profile, self.combiner, self.domain, self.mode = Profile(profile), Combiner(combiner), domain, mode
        self._long: V | None = None  # of a group that follows an agent: how long IDs are
        if aead is None:
            aead = Aead.AES_256_GCM if self.profile is Profile.TSS else Aead.AES_128_GCM
        self.aead = Aead(aead)
        kinds = {Profile.TSS: TssMode, Profile.EESP: Sskdf}
        if mode is not None and type(mode) is not kinds.get(self.profile):
            raise ValueError(f"profile {self.profile.name.lower()} does not take mode {mode!r}")
        if self.profile is Profile.EESP and mode is None:
            raise ValueError("profile eesp: mode is needed, one of Sskdf")
        flags = 0
        for flag, wanted in (
            (_abi.GROUP_NO_SEQUENCE, not sequence),
            (_abi.GROUP_IV, iv),
            (_abi.GROUP_OPTIMIZED, optimized),
            (_abi.GROUP_ALIGN8, align8),
            (_abi.GROUP_TIME, time is True),
            (_abi.GROUP_TIME_LATE, time == "late"),
            (_abi.GROUP_NO_DIRECTION_BIT, not direction_bit),
        ):
            flags |= flag if wanted else 0
        set_of_versions = 0
        for version in versions:
            set_of_versions |= 1 << PspVersion(version)
        config = _abi.GroupConfig(
            struct_size=ctypes.sizeof(_abi.GroupConfig),
            profile=self.profile,
            aead=self.aead,
            combiner=self.combiner,
            domain=_unsigned(domain, 32, "domain"),
            sub_sas=_unsigned(sub_sas, 32, "sub_sas"),
            rekey_mask=_unsigned(rekey_mask, 64, "rekey_mask"),
            rekey_shift=_unsigned(rekey_shift, 8, "rekey_shift"),
            mode=0 if mode is None else mode,
            versions=set_of_versions,
            max_coffset=_unsigned(max_coffset, 8, "max_coffset"),
            flags=flags,
            draft=_unsigned(draft, 8, "draft"),
            encap=Encap(encap),
            crypt_offset=_unsigned(crypt_offset, 16, "crypt_offset"),
            epoch_age=_unsigned(epoch_age, 16, "epoch_age"),
            auth_failure_limit=_unsigned(auth_failure_limit, 32, "auth_failure_limit"),
            counter_limit=_unsigned(counter_limit, 64, "counter_limit"),
        )
        self._make("eesp_group_free", lambda made: _LIB.eesp_group_new(byref(config), made))

    def set_root_key_der(self, level: Level, der: Buffer) -> None:
        """Sets a level's root key from a RootKeyStruct, in place of any that is there."""
        view = octets_of(der, "der")
        check(self._call(_LIB.eesp_group_set_root_key_der, _level(level), address_of(view), len(view)))

    def set_root_key(self, level: Level, id: bytes, index: Sequence[int], value: Sequence[Buffer]) -> None:
        """Sets a level's root key from its parts. index and value: previous, current, next."""
        if len(index) != 3 or len(value) != 3:
            raise ValueError("three indices and three values are needed: previous, current, next")
        name = _name(id)
        indices = (ctypes.c_uint64 * 3)(*(_unsigned(i, 64, "index") for i in index))
        views = [octets_of(v, "value") for v in value]
        if any(len(v) != _abi.ROOT_KEY_LEN for v in views):
            raise ValueError(f"a value has {_abi.ROOT_KEY_LEN} octets")
        with Secret(3 * _abi.ROOT_KEY_LEN) as values:
            octets = values.view()
            for i, view in enumerate(views):
                octets[i * _abi.ROOT_KEY_LEN : (i + 1) * _abi.ROOT_KEY_LEN] = view
            check(
                self._call(
                    _LIB.eesp_group_set_root_key, _level(level), name, len(name), byref(indices), address_of(octets)
                )
            )

    def set_ring(
        self, level: Level, id: bytes, generation: Sequence[int], value: Sequence[Buffer | None], floor: int = 0
    ) -> None:
        """Sets a whole ring at a level: previous, current and next key. Generation 0 means that there is no such key.

        Previous and next key may be missing (value None). Generations below floor are refused, and so are those below
        the lowest one that a ring of this ID had in this process. When several hosts rotate together, a host has done
        its step when wait() returns.
        """
        if len(generation) != 3 or len(value) != 3:
            raise ValueError("three generations and three values are needed: previous, current, next")
        name = _name(id)
        generations = (ctypes.c_uint64 * 3)(*(_unsigned(i, 64, "generation") for i in generation))
        with Secret(3 * _abi.ROOT_KEY_LEN) as values:
            octets = values.view()
            for i, key in enumerate(value):
                if (key is None) != (generation[i] == 0):
                    raise ValueError("a value is None where the generation is 0, and only there")
                if key is not None:
                    view = octets_of(key, "value")
                    if len(view) != _abi.ROOT_KEY_LEN:
                        raise ValueError(f"a value has {_abi.ROOT_KEY_LEN} octets")
                    octets[i * _abi.ROOT_KEY_LEN : (i + 1) * _abi.ROOT_KEY_LEN] = view
            at = address_of(octets)
            check(
                self._call(
                    _LIB.eesp_group_set_ring,
                    _level(level),
                    name,
                    len(name),
                    byref(generations),
                    at,
                    _unsigned(floor, 64, "floor"),
                )
            )

    def wait(self, timeout: float) -> None:
        """Waits until all bursts that began before this call have ended. Then no burst uses keys that were replaced."""
        check(self._call(_LIB.eesp_group_wait, _milliseconds(timeout)))

    @classmethod
    def follow(
        cls,
        name: str,
        *,
        socket: str | os.PathLike[str] | None = None,
        timeout: float = 10.0,
        keys: bool = True,
        agent_uid: int = 0,
        clients: bool = False,
    ) -> TrustGroup:
        """Makes a group whose parameters, keys and IDs come from an agent (eespd agent), which can change them.

        timeout: seconds to wait for the group and, unless keys is False, for its keys. agent_uid: another user that the
        agent may run as, besides root and this process's user. Senders of the group take no id, counter or lock_dir, and
        send options. clients: lets the agent ask this group for data keys of clients outside the cluster (see clients()).
        """
        config = _abi.FollowConfig(
            struct_size=ctypes.sizeof(_abi.FollowConfig),
            flags=(0 if keys else _abi.FOLLOW_WITHOUT_KEYS) | (_abi.FOLLOW_CLIENTS if clients else 0),
            socket_path=None if socket is None else _path(socket),
            timeout_ms=max(_milliseconds(timeout), 1),
            agent_uid=_unsigned(agent_uid, 32, "agent_uid"),
        )
        group = cls.__new__(cls)
        need(name, str, "name")
        called = name.encode()
        if b"\0" in called:
            raise ValueError("name has a NUL in it")
        group._make("eesp_group_free", lambda made: _LIB.eesp_group_follow(called, byref(config), made))
        info = group._follow_info()
        group.profile, group.aead, group.combiner, group.domain = Profile(info.profile), Aead(info.aead), Combiner.HKDF, info.domain
        group.mode = TssMode(info.mode) if group.profile is Profile.TSS else None
        group._long = V(info.v)
        return group

    def _follow_info(self) -> _abi.FollowInfo:
        info = _abi.FollowInfo()
        check(self._call(_LIB.eesp_group_follow_info, byref(info)))
        return info

    def wait_sealing(self, timeout: float) -> None:
        """Waits until the senders of a group that follows an agent can seal; raises the reason if they cannot in time."""
        check(self._call(_LIB.eesp_follow_wait, _milliseconds(timeout)))

    def clients(self) -> list[Client]:
        """The clients outside the cluster that have data keys of a group that follows an agent."""
        room = 64
        while True:
            found, n = (_abi.FollowClient * room)(), ctypes.c_size_t(room)
            status = self._call(_LIB.eesp_follow_clients, found, byref(n))
            if status == Status.ROOM:
                room = n.value + 64
                continue
            check(status)
            return [Client(c.name.decode(errors="backslashreplace"), c.up, c.down, c.lease_ms / 1000) for c in found[: n.value]]

    def client_sender(self, client: Client) -> Sender:
        """Returns the sender to a client. It can be called once for each. When the lease ends, packets are refused (NO_KEY)."""
        sender = Sender.__new__(Sender)
        handle = self._open()
        sender.profile, sender._id, sender.v = self.profile, client.down, v_member(self.profile, self._client_v())
        sender._make("eesp_sender_free", lambda made: _LIB.eesp_sender_new_to_client(handle.pointer, client.down, made))
        return sender

    def _client_v(self) -> int:
        if self.profile is Profile.STATELESS:
            return int(self._long or V.ID)
        return v_number(self.profile, self.aead, None)

    def follow_info(self) -> FollowInfo:
        """Describes a group that follows an agent."""
        i = self._follow_info()
        return FollowInfo(
            bool(i.connected),
            Status(i.sealing),
            {level: (g[0], g[1], g[2]) for level, g in zip(Level, i.generation) if any(g)},
            i.states,
            i.refused,
            i.fenced,
            i.ids,
            i.replay_window,
            i.replay_contexts,
            i.mtu,
            i.problem.decode(errors="backslashreplace"),
            "time" if i.replay_mode == _abi.REPLAY_TIME else "windows",
        )

    def generate_root_key(self, level: Level, id: bytes) -> None:
        """Sets a random root key with indices 1, 1, 2, which has no previous key."""
        name = _name(id)
        check(self._call(_LIB.eesp_group_generate_root_key, _level(level), name, len(name)))

    def root_key_der(self, level: Level) -> Secret:
        """Returns a level's root key as RootKeyStruct (DER), which is secret."""
        level = _level(level)
        read, size = _LIB.eesp_group_get_root_key_der, ctypes.c_size_t(0)
        status = self._call(read, level, None, byref(size))
        while status == Status.ROOM:  # again, if it was replaced by a longer one meanwhile
            der = Secret(size.value)
            status = self._call(read, level, address_of(der.view()), byref(size))
        check(status)
        if len(der) != size.value:
            with der:
                return der[: size.value]
        return der

    def root_key_info(self, level: Level) -> RootKeyInfo:
        """Returns the public part of a level's root key."""
        info = _abi.RootKeyInfo()
        check(self._call(_LIB.eesp_group_get_root_key_info, _level(level), byref(info)))
        previous, current, following = info.index
        return RootKeyInfo(bytes(info.id)[: info.id_len], previous, current, following, bool(info.has_previous))

    def rotate(self, level: Level, index: int, value: Buffer | None = None) -> None:
        """Makes value (None: a random one) the next key, next the current, current the previous one."""
        view = None if value is None else octets_of(value, "value")
        if view is not None and len(view) != _abi.ROOT_KEY_LEN:
            raise ValueError(f"a value has {_abi.ROOT_KEY_LEN} octets")
        at = None if view is None else address_of(view)
        check(self._call(_LIB.eesp_group_rotate, _level(level), _unsigned(index, 64, "index"), at))

    def remove_root_key(self, level: Level) -> None:
        """Removes a level's root key; it is wiped when the last burst that uses it has ended."""
        check(self._call(_LIB.eesp_group_remove_root_key, _level(level)))

    def set_default_levels(self, levels: Levels) -> None:
        """Sets the levels that packets without Master Key Options use."""
        check(self._call(_LIB.eesp_group_set_default_levels, _unsigned(levels, 32, "levels")))

    def set_key(self, slot: int, key: Buffer) -> None:
        """Sets the key of a slot (psp: device key 0 or 1; tss: AN 0 or 1; eesp: 0). Senders use the first key that is set."""
        view = octets_of(key, "key")
        check(self._call(_LIB.eesp_group_set_key, _unsigned(slot, 32, "slot"), address_of(view), len(view)))

    def use_key(self, slot: int) -> None:
        """Selects the slot that senders use; psp: also the slot for new SPIs."""
        check(self._call(_LIB.eesp_group_use_key, _unsigned(slot, 32, "slot")))

    def rotate_key(self, key: Buffer | None = None) -> int:
        """Sets the key of the slot that senders do not use (None: a random key), selects that slot and returns it."""
        view = None if key is None else octets_of(key, "key")
        at, size = (None, 0) if view is None else (address_of(view), len(view))
        slot = ctypes.c_uint()
        check(self._call(_LIB.eesp_group_rotate_key, at, size, byref(slot)))
        return slot.value

    def remove_key(self, slot: int) -> None:
        """Removes a slot's key."""
        check(self._call(_LIB.eesp_group_remove_key, _unsigned(slot, 32, "slot")))

    def set_epoch(self, epoch: int) -> None:
        """tss: sets the epoch of the key in use. A new key begins in epoch 0. Packets more than epoch_age behind are refused."""
        check(self._call(_LIB.eesp_group_set_epoch, _unsigned(epoch, 16, "epoch")))

    def reset_latch(self) -> None:
        """tss: resets the latch. Packets are opened again, after auth_failure_limit packets that were not authentic."""
        check(self._call(_LIB.eesp_group_reset_latch))

    def domain_stats(self) -> DomainStats:
        """tss: returns the counts of the group's packets."""
        raw = _abi.DomainStats()
        check(self._call(_LIB.eesp_group_domain_stats, byref(raw)))
        return DomainStats(
            sealed=raw.sealed,
            opened=raw.opened,
            auth_failures=raw.auth_failures,
            invalid=raw.invalid,
            unknown_sa=raw.unknown_sa,
            late_epoch=raw.late_epoch,
            exhausted=raw.exhausted,
            wrong_ssi=raw.wrong_ssi,
            clear=raw.clear,
            failures=raw.failures,
            latched=bool(raw.latched),
            epoch=raw.epoch,
        )

    def usage(self, level: Level | int = 0, generation: Generation = Generation.CURRENT) -> Usage:
        """Returns how a level's root key of that generation was used. Profiles with slots: level is the slot."""
        raw = _abi.Usage()
        check(self._call(_LIB.eesp_group_usage, _unsigned(level, 31, "level"), Generation(generation), byref(raw)))
        return Usage(raw.derived, raw.sealed, raw.opened, raw.index)

    def alloc_spi(self, first: int = 1) -> int:
        """psp: allocates an SPI, to be given to a peer with its data key. SPIs rise from first on; none is allocated twice.

        After a restart with the same device keys, pass the last SPI + 1 as first.
        """
        spi = ctypes.c_uint32()
        check(self._call(_LIB.eesp_group_alloc_spi, _unsigned(first, 32, "first"), byref(spi)))
        return spi.value

    @property
    def derived_len(self) -> int:
        """How many octets derive_keys returns for a context: the data key, and what is added to nonces (tss 12, eesp 4)."""
        if self.profile is Profile.TSS:
            return self.aead.key_len + (0 if self.mode is TssMode.DIRECT else 12)
        return self.aead.key_len + (4 if self.profile is Profile.EESP else 0)

    def _context(self, context: Context) -> _abi.Context:
        need(context, Context, "context")
        return _abi.Context(
            id=_unsigned(context.id, 64, "id"),
            epoch=_unsigned(context.epoch, 16, "epoch"),
            v=_unsigned(v_number(self.profile, self.aead, context.v), 8, "v"),
            levels=_unsigned(context.levels, 8, "levels"),
            generation=_unsigned(context.generation, 8, "generation"),
            addr=_addr(context.src, context.dst, context.v),
        )

    def derive_keys(self, contexts: Iterable[Context]) -> Keys:
        """Derives the data keys of contexts, of derived_len octets each."""
        made = [self._context(c) for c in contexts]
        keys = Secret(self.derived_len * len(made))
        self._derive((_abi.Context * len(made))(*made), len(made), keys.view())
        return Keys(keys, self.derived_len)

    def _derive(self, contexts: Any, count: int, keys: memoryview) -> None:
        check(self._call(_LIB.eesp_derive_keys, contexts, count, address_of(keys), len(keys)))

    def export_data_key(self, context: Context, *, options: bool | None = None) -> DataKey:
        """Derives one context's data key, for an end that must not hold the group's keys.

        options: packets sealed with it carry Master Key Options. By default they do in profile stateless.
        """
        wanted = self.profile is Profile.STATELESS if options is None else options
        raw = _WipedKey()
        check(self._call(_LIB.eesp_data_key_export, byref(self._context(context)), int(wanted), byref(raw)))
        return DataKey._of(raw)

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        if self.profile is Profile.STATELESS:
            return f"<TrustGroup {self.profile.name}, {self.aead.name}, {self.combiner.name}{state}>"
        rest = "" if self.profile is Profile.PSP else f" {self.domain:#x}"
        rest += "" if self.mode is None else f", {self.mode.name}"
        return f"<TrustGroup {self.profile.name}{rest}, {self.aead.name}{state}>"


def derive_keys(group: TrustGroup, contexts: Iterable[Context]) -> Keys:
    """The data keys of contexts: as TrustGroup.derive_keys."""
    need(group, TrustGroup, "group")
    return group.derive_keys(contexts)


class _WipedKey(_abi.DataKey):
    """Wiped when nothing uses it any more; views of the key keep it."""

    def __del__(
        self, wipe: Callable[[Any, int, int], Any] = ctypes.memset, size: int = ctypes.sizeof(_abi.DataKey)
    ) -> None:
        wipe(ctypes.addressof(self), 0, size)

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")


class DataKey:
    """The data key of one context. Its octets are secret, and wiped with it.

    It comes from TrustGroup.export_data_key, from_octets, or its parts. salt: what is added to nonces (tss 12 octets,
    eesp 4); domain: SDI or SPI; params: the exported parameters of the group.
    """

    __slots__ = ("_raw",)

    _raw: _abi.DataKey

    def __init__(
        self,
        *,
        id: int,
        epoch: int = 0,
        key: Buffer,
        profile: Profile = Profile.STATELESS,
        v: AnyV | None = None,
        src: Address | None = None,
        dst: Address | None = None,
        options: bytes = b"",
        salt: Buffer = b"",
        params: bytes = bytes(2),
        domain: int = 0,
    ) -> None:
        octets, added = octets_of(key, "key"), octets_of(salt, "salt")
        if len(octets) not in (16, 32):
            raise ValueError("a data key has 16 or 32 octets")
        if len(options) > _abi.MAX_OPTIONS or len(added) > _abi.MAX_OPTIONS:
            raise ValueError(f"options and salt have at most {_abi.MAX_OPTIONS} octets")
        if len(options) and profile != Profile.STATELESS or len(added) and profile == Profile.STATELESS:
            raise ValueError("options are for profile stateless, a salt is for tss and eesp")
        if len(params) != 2:
            raise ValueError("params has 2 octets")
        raw = _WipedKey(
            id=_unsigned(id, 64, "id"),
            epoch=_unsigned(epoch, 16, "epoch"),
            v=_unsigned(v_number(profile, Aead(len(octets) // 32), v), 8, "v"),
            key_len=len(octets),
            options_len=len(options) or len(added),
            profile=Profile(profile),
            addr=_addr(src, dst, v),
            domain=_unsigned(domain, 32, "domain"),
        )
        raw.params[:] = list(params)
        ctypes.memmove(raw.key, address_of(octets), len(octets))
        ctypes.memmove(raw.options, bytes(options), len(options))
        ctypes.memmove(ctypes.addressof(raw.options), address_of(added), len(added))
        self._raw = raw

    @classmethod
    def from_octets(cls, octets: Buffer) -> DataKey:
        """Reads what to_octets made. Malformed octets are refused here, or when a sender or receiver is made."""
        view = octets_of(octets, "octets")
        if len(view) != ctypes.sizeof(_abi.DataKey):
            raise ValueError(f"a data key as a whole has {ctypes.sizeof(_abi.DataKey)} octets, not {len(view)}")
        raw = _WipedKey()
        ctypes.memmove(ctypes.addressof(raw), address_of(view), len(view))
        if raw.key_len not in (16, 32) or raw.options_len > _abi.MAX_OPTIONS:
            raise ValueError("these octets are not a data key")
        v_member(Profile(raw.profile), raw.v)  # ValueError, if there is none
        return cls._of(raw)

    def _whole(self) -> _abi.DataKey:
        if not self._raw.key_len:
            raise ValueError("this DataKey was wiped")
        return self._raw

    def to_octets(self) -> Secret:
        """Returns the whole key, to be sent over a protected channel: C's eesp_data_key, in little-endian order."""
        self._whole()
        made = Secret(ctypes.sizeof(_abi.DataKey))
        ctypes.memmove(address_of(made.view()), ctypes.addressof(self._raw), len(made))
        return made

    @classmethod
    def _of(cls, raw: _abi.DataKey) -> DataKey:
        made = cls.__new__(cls)
        made._raw = raw
        return made

    @property
    def id(self) -> int:
        """DeviceID or ConnectionID; SPI, SSI, Session ID."""
        return int(self._raw.id)

    @property
    def profile(self) -> Profile:
        """The packet format that it is for."""
        return Profile(self._raw.profile)

    @property
    def domain(self) -> int:
        """SDI (tss) or SPI (eesp) of the group."""
        return int(self._raw.domain)

    @property
    def params(self) -> bytes:
        """The parameters of the group that the holder needs."""
        return bytes(self._raw.params)

    @property
    def epoch(self) -> int:
        """The epoch that it is for."""
        return int(self._raw.epoch)

    @property
    def v(self) -> AnyV | None:
        """What the context consists of; psp: the version."""
        return v_member(self.profile, self._raw.v)

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
        """Master Key Options, as in the header (profile stateless)."""
        return bytes(self._raw.options)[: self._raw.options_len] if self.profile is Profile.STATELESS else b""

    @property
    def salt(self) -> memoryview:
        """What is added to nonces (tss, eesp): a view, as key."""
        size = 0 if self.profile is Profile.STATELESS else self._raw.options_len
        return memoryview(self._raw.options).cast("B")[:size].toreadonly()

    @property
    def key(self) -> memoryview:
        """A view of the secret octets. They are wiped by wipe(), or when neither this object nor a view is left."""
        return memoryview(self._raw.key).cast("B")[: self._raw.key_len].toreadonly()

    def wipe(self) -> None:
        """Overwrites the whole key with zeros."""
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
        kind = "" if self.profile is Profile.STATELESS else f" {self.profile.name}"
        kind += f" {self.domain:#x}" if self.domain else ""
        v = "" if self.v is None else f" v={self.v.name}"
        if not self._raw.key_len:
            return "<DataKey, wiped>"
        return f"<DataKey{kind} id={self.id:#x} epoch={self.epoch}{v}, {self._raw.key_len} octets>"


def _stats(of: _Object, function: Callable[[int, Any], int]) -> Stats:
    raw = _abi.Stats()
    check(of._call(function, byref(raw)))
    return Stats(raw.octets, {status: raw.packets[-status] for status in Status if raw.packets[-status]})


def _no_fronts(profile: Profile, leads: object, ipv6: object) -> None:
    if leads is not None or ipv6 is not False:
        raise ValueError(f"profile {profile.name.lower()} has no leads: leads and ipv6 are for tss")


def _one_lead(profile: Profile, lead: Buffer | None) -> bytes:
    if profile is not Profile.TSS:
        if lead is not None:
            _no_fronts(profile, lead, False)
        return b""
    if lead is None:
        raise ValueError("profile tss: a lead is needed, the octets in front of the header")
    return lead_of(lead)


def _udp(udp: Udp) -> _abi.Udp:
    need(udp, Udp, "udp")
    return _abi.Udp(
        struct_size=ctypes.sizeof(_abi.Udp),
        dst_port=_unsigned(udp.dport, 16, "dport"),
        src_port=_unsigned(udp.sport, 16, "sport"),
        mode=UdpMode(udp.mode),
        ttl=_unsigned(udp.ttl, 8, "ttl"),
        tos=_unsigned(udp.tos, 8, "tos"),
        flags=_abi.UDP_ECN * bool(udp.ecn)
        | _abi.UDP_DSCP * bool(udp.dscp)
        | _abi.UDP_DSCP_BACK * bool(udp.dscp_back)
        | _abi.UDP_CHECKSUM6 * bool(udp.checksum6),
        addr=_addr(udp.src, udp.dst),
    )


def _outer(udp: Udp) -> int:
    """Octets that IP and UDP put in front."""
    need(udp, Udp, "udp")
    tunnel = _IPV4 if address(udp.src).startswith(bytes(10) + b"\xff\xff") else _IPV6
    return _UDP + (tunnel if udp.mode == UdpMode.TUNNEL else 0)


def _with_udp(function: Any, udp: Udp) -> Callable[..., int]:
    """A function for bursts in UDP, as run_burst calls those that are not."""
    raw = _udp(udp)
    return lambda handle, pkts, n: int(function(handle, byref(raw), pkts, n))


def _path(path: str | os.PathLike[str]) -> bytes:
    octets = os.fsencode(path)
    if b"\0" in octets:
        raise ValueError("path has a NUL in it")
    return octets


class Sender(_Object):
    """Seals packets under one ID and owns that ID's counters.

    group: a TrustGroup, or a DataKey, which brings ID, V, options and (stateless, tss) epoch with it.
    id: DeviceID or ConnectionID, SPI (psp), SSI (tss), Session ID (eesp).
    v: V.ID by default; psp: the version, by default that of the group's AEAD; tss: required.
    options: packets name their root keys. Set it wherever root keys rotate.
    engine_bits: divides the counters of one ID among 2^engine_bits senders. Each has its own number, engine, in the lowest
    bits of the counter.
    extra: psp, the VC of 8 octets and other extension fields, a multiple of 8 octets in all (no_vc: other fields only);
    eesp, draft -02, a Flow Identifier.
    offset_from_iv: psp, coffset of packets counts from the end of the IV, as in the header: 0 encrypts all of extra, 1 all
    but 4 octets.
    lock_dir: a directory in which the ID is locked. Another process of the host that uses the same directory gets
    ExistsError for this ID, and so does a fixed epoch with another start or rate than before.
    time: for a DataKey of a group whose counters are times (TrustGroup's time). A group's sender follows its group.
    """

    def __init__(
        self,
        group: TrustGroup | DataKey,
        id: int = 0,
        *,
        v: AnyV | None = None,
        options: bool = False,
        levels: Levels = Levels.DEFAULT,
        counter: Counter = Clock(),
        engine: int = 0,
        engine_bits: int = 0,
        extra: bytes = b"",
        no_vc: bool = False,
        offset_from_iv: bool = False,
        lock_dir: str | os.PathLike[str] | None = None,
        time: bool | Literal["late"] = False,
    ) -> None:
        need(group, (TrustGroup, DataKey), "group")
        need(counter, (Clock, Explicit, Reserved), "counter")
        self.profile = group.profile
        if not isinstance(group, DataKey):
            if group._long is not None and v is None and group.profile is Profile.TSS:
                v = TssV.SSI
            number = v_number(group.profile, group.aead, v)
        else:
            number = 0 if v is None else int(v)
        added = octets_of(extra, "extra")
        content = ctypes.create_string_buffer(bytes(added), len(added) or 1)
        config = _abi.SenderConfig(
            struct_size=ctypes.sizeof(_abi.SenderConfig),
            flags=(_abi.SENDER_OPTIONS if options else 0)
            | (_abi.SENDER_NO_VC if no_vc else 0)
            | (_abi.SENDER_OFFSET_FROM_IV if offset_from_iv else 0),
            id=_unsigned(id, 64, "id"),
            v=_unsigned(number, 8, "v"),
            levels=_unsigned(levels, 8, "levels"),
            engine=_unsigned(engine, 32, "engine"),
            engine_bits=_unsigned(engine_bits, 8, "engine_bits"),
            extra=ctypes.addressof(content) if len(added) else None,
            extra_len=len(added),
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
            config.state_path = _path(counter.path)
        if time:
            config.flags |= _abi.SENDER_TIME_LATE if time == "late" else _abi.SENDER_TIME
        if lock_dir is not None:
            config.lock_dir = _path(lock_dir)
        if isinstance(group, DataKey):
            raw = group._whole()
            self._id, self.v = group.id, group.v
            self._make("eesp_sender_free", lambda made: _LIB.eesp_sender_new_with_key(byref(raw), byref(config), made))
        else:
            handle = group._open()
            if group._long is not None and self.profile is Profile.STATELESS:
                number = number & ~int(V.LONG_ID) | int(group._long)
            self._id, self.v = id, v_member(self.profile, number)
            self._make("eesp_sender_free", lambda made: _LIB.eesp_sender_new(handle.pointer, byref(config), made))
        del content

    @property
    def id(self) -> int:
        """The sender's ID; 0 if the agent has assigned none yet."""
        if self._handle is not None:
            self._id = int(self._call(_LIB.eesp_sender_id)) or self._id
        return self._id

    def set_id(self, id: int) -> None:
        """Changes the ID from the next burst on. Groups that follow an agent get their IDs from it."""
        check(self._call(_LIB.eesp_sender_set_id, _unsigned(id, 64, "id")))

    @property
    def header_len(self) -> int:
        """The length of the header that the sender writes now, in octets; 0 without a key."""
        found = int(self._call(_LIB.eesp_sender_header_len))
        if not found:
            check_not_forked()
        return found

    @property
    def next_tsc(self) -> int:
        """Epoch(16) | Counter(48) of the next packet, if nothing else is sent first."""
        found = int(self._call(_LIB.eesp_sender_next_tsc))
        if not found:
            check_not_forked()
        return found

    @property
    def tail_len(self) -> int:
        """The most octets that are written behind a payload: padding (eesp) and ICV."""
        return _abi.ICV_LEN + (_abi.MAX_PADDING if self.profile is Profile.EESP else 0)

    def _extra(self) -> int:
        return (self.header_len or _abi.MAX_HEADER) + self.tail_len

    def sealed_size(self, payloads: PacketsLike) -> int:
        """How many octets seal_into needs for these payloads now (tss: with prefixes of either length)."""
        lead = _abi.TSS_LEAD_IPV6 if self.profile is Profile.TSS else 0
        return as_packets(payloads)._layout(self._extra() + lead)[2]

    def seal(
        self,
        payloads: PacketsLike,
        *,
        coffset: Offsets = 0,
        ioffset: Offsets = 0,
        next_header: Offsets = 0,
        addresses: Addresses | None = None,
        leads: Leads | None = None,
    ) -> Result:
        """Seals payloads into a new buffer. Other arguments are one value for all packets, or one for each packet.

        coffset, ioffset: what stays in clear, in units of 4 octets. next_header: the payload's protocol (psp, eesp).
        addresses: required where v asks for them. leads: tss, the prefixes; they are copied in front of the packets in the new buffer.
        """
        return self._seal(payloads, None, coffset, ioffset, next_header, addresses, leads, False)

    def seal_into(
        self,
        payloads: PacketsLike,
        out: Buffer | Packets,
        *,
        coffset: Offsets = 0,
        ioffset: Offsets = 0,
        next_header: Offsets = 0,
        addresses: Addresses | None = None,
        leads: Leads | None = None,
        ipv6: Families = False,
    ) -> Result:
        """Seals payloads into the caller's buffer, one behind the other, or to the places that Packets name.

        tss: leads, the prefixes, are copied to the beginning of each place. Without leads, they must be there already,
        and ipv6 says whether they are for IPv6.
        """
        return self._seal(payloads, out, coffset, ioffset, next_header, addresses, leads, ipv6)

    def _seal(
        self,
        payloads: PacketsLike,
        out: Buffer | Packets | None,
        coffset: Offsets,
        ioffset: Offsets,
        next_header: Offsets,
        addresses: Addresses | None,
        leads: Leads | None,
        ipv6: Families,
    ) -> Result:
        _needs_addresses(self.v, addresses)
        source = as_packets(payloads)
        fronts = self._fronts(leads, ipv6, len(source))
        if fronts is None:
            places = place_results(source, out, self._extra())
        else:
            if leads is None and not isinstance(out, Packets):
                raise ValueError("profile tss: leads are needed")
            places = place_results(source, out, self._extra() + max(fronts.sizes, default=0))
            if any(length < size for length, size in zip(places._lengths, fronts.sizes)):
                raise ValueError("a place is too small for its lead")
            fronts.write(places._buffer, places._offsets)
        return self._call(
            run_burst,
            _LIB.eesp_seal_burst,
            source,
            out=places,
            coffset=coffset,
            ioffset=ioffset,
            next_header=next_header,
            flags=None if fronts is None else fronts.flags,
            addresses=addresses,
            moved=fronts is not None,
        )

    def _fronts(self, leads: Leads | None, ipv6: Families, count: int) -> Fronts | None:
        if self.profile is Profile.TSS:
            return fronts_of(leads, ipv6, count)
        _no_fronts(self.profile, leads, ipv6)
        return None

    def seal_in_place(
        self,
        payloads: Packets,
        *,
        headroom: int | None = None,
        tailroom: int | None = None,
        coffset: Offsets = 0,
        ioffset: Offsets = 0,
        next_header: Offsets = 0,
        addresses: Addresses | None = None,
        leads: Leads | None = None,
        ipv6: Families = False,
    ) -> Result:
        """Seals payloads in place: header in front, ICV behind. Headroom and tailroom: header_len and tail_len by default.

        tss: leads, the prefixes, are copied in front of the headers and need headroom too. Without leads, they must be
        there already, and ipv6 says whether they are for IPv6.
        """
        _needs_addresses(self.v, addresses)
        need(payloads, Packets, "payloads")
        fronts, rooms, room = self._rooms(len(payloads), headroom, tailroom, leads, ipv6)
        check_rooms(payloads, rooms, room)
        self._write_leads(fronts, payloads)
        return self._call(
            run_burst,
            _LIB.eesp_seal_burst,
            payloads,
            headroom=rooms,
            tailroom=room,
            coffset=coffset,
            ioffset=ioffset,
            next_header=next_header,
            flags=None if fronts is None else fronts.flags,
            addresses=addresses,
        )

    def _rooms(
        self, count: int, headroom: int | None, tailroom: int | None, leads: Leads | None, ipv6: Families
    ) -> tuple[Fronts | None, int | list[int], int]:
        """Returns prefixes, headroom and tailroom of packets that are sealed in place."""
        header = self.header_len or _abi.MAX_HEADER
        fronts = self._fronts(leads, ipv6, count)
        rooms: int | list[int] = header if headroom is None else headroom
        if fronts is not None:
            needed = [header + size for size in fronts.sizes]
            if headroom is None:
                rooms = needed
            elif headroom < max(needed, default=0):
                raise ValueError(f"headroom: a lead and a header have {max(needed)} octets")
        return fronts, rooms, self.tail_len if tailroom is None else tailroom

    def _write_leads(self, fronts: Fronts | None, payloads: Packets) -> None:
        header = self.header_len
        if fronts is not None and header:
            fronts.write(
                payloads._buffer, (at - header - size for at, size in zip(payloads._offsets, fronts.sizes))
            )

    def seal_chains(
        self,
        payloads: Chains,
        *,
        headroom: int | None = None,
        tailroom: int | None = None,
        coffset: Offsets = 0,
        ioffset: Offsets = 0,
        next_header: Offsets = 0,
        addresses: Addresses | None = None,
        leads: Leads | None = None,
        ipv6: Families = False,
    ) -> ChainedResult:
        """Seals payloads of several segments in place: the header in front of the first one, the ICV behind the last.

        Other segments keep their lengths. Headroom, tailroom and leads: as for seal_in_place.
        """
        _needs_addresses(self.v, addresses)
        need(payloads, Chains, "payloads")
        fronts, rooms, room = self._rooms(len(payloads), headroom, tailroom, leads, ipv6)
        check_rooms(
            payloads.segments,
            payloads._edge(_each(rooms, len(payloads)), False),
            payloads._edge(_each(room, len(payloads)), True),
        )
        self._write_leads(fronts, payloads._starts())
        return self._call(
            run_chains,
            _LIB.eesp_seal_burst,
            payloads,
            sealed=True,
            headroom=rooms,
            tailroom=room,
            coffset=coffset,
            ioffset=ioffset,
            next_header=next_header,
            flags=None if fronts is None else fronts.flags,
            addresses=addresses,
        )

    def seal_one(
        self,
        payload: Buffer,
        *,
        coffset: int = 0,
        ioffset: int = 0,
        next_header: int = 0,
        addresses: Addresses | None = None,
        lead: Buffer | None = None,
    ) -> bytes:
        """Seals one packet; raises on failure. lead: tss, the prefix, which is not part of the result."""
        _needs_addresses(self.v, addresses)
        front = _one_lead(self.profile, lead)
        made = self._call(
            run_one,
            _LIB.eesp_seal_burst,
            payload,
            self._extra(),
            coffset,
            ioffset,
            next_header,
            addresses,
            front,
        )
        return made[0]

    def seal_udp(
        self,
        packets: PacketsLike,
        udp: Udp,
        out: Buffer | Packets | None = None,
        *,
        coffset: Offsets = 0,
        ioffset: Offsets = 0,
    ) -> Result:
        """Seals IP packets with IP and UDP headers in front, into a new buffer or the caller's.

        Where v asks for addresses, they are those of the outer header.
        """
        source = as_packets(packets)
        return self._call(
            run_burst,
            _with_udp(_LIB.eesp_udp_seal_burst, udp),
            source,
            out=place_results(source, out, self._extra() + _outer(udp)),
            coffset=coffset,
            ioffset=ioffset,
            moved=True,
        )

    def seal_udp_in_place(
        self,
        packets: Packets,
        udp: Udp,
        *,
        headroom: int | None = None,
        tailroom: int | None = None,
        coffset: Offsets = 0,
        ioffset: Offsets = 0,
    ) -> Result:
        """Seals IP packets in place. Default headroom: header_len, IP and UDP header; default tailroom: tail_len."""
        rooms = (self.header_len or _abi.MAX_HEADER) + _outer(udp) if headroom is None else headroom
        room = self.tail_len if tailroom is None else tailroom
        check_rooms(packets, rooms, room)
        return self._call(
            run_burst,
            _with_udp(_LIB.eesp_udp_seal_burst, udp),
            packets,
            headroom=rooms,
            tailroom=room,
            coffset=coffset,
            ioffset=ioffset,
        )

    def stats(self) -> Stats:
        """Returns the counts of sealed packets."""
        return _stats(self, _LIB.eesp_sender_stats)

    def __repr__(self) -> str:
        kind = "" if self.profile is Profile.STATELESS else f"{self.profile.name} "
        v = "" if self.v is None else f" v={self.v.name}"
        return f"<Sender {kind}id={self.id:#x}{v}{' closed' if self.closed else ''}>"


class Receiver(_Object):
    """Opens packets of one or more groups of one profile, or of one DataKey.

    own_ids: IDs that this end sends with; packets with one of them are refused. try_previous: packets without options are
    also tried with the previous root keys; a forged packet then costs twice as much. replay_window: packets that were seen
    before, or are further back than this (64 to 65,536), are refused. Each key, ID and epoch has a window, at most
    replay_contexts of them (0: 4096). engine_bits: those of the senders; each engine has windows of its own.

    replay="time", for groups whose counters are times: packets are refused that are older than max_age, further ahead of
    the clock than max_early (seconds), or were opened before. One table for all senders has room for max_rate packets a
    second. Defaults: 0.1 s, 0.025 s, a million. After a start nothing is opened for max_early. mark: a file with a mark
    above the times of all packets that were opened. clock_trusted: use the clock even if the kernel does not say that it
    is synchronized. heir_of: a receiver whose table this one shares.
    """

    def __init__(
        self,
        groups: TrustGroup | DataKey | Sequence[TrustGroup],
        *,
        own_ids: Iterable[int] = (),
        try_previous: bool = False,
        replay_window: int = 0,
        replay_contexts: int = 0,
        engine_bits: int = 0,
        replay: Literal["windows", "time"] = "windows",
        max_age: float = 0,
        max_early: float = 0,
        max_rate: int = 0,
        mark: str | os.PathLike[str] | None = None,
        clock_trusted: bool = False,
        heir_of: Receiver | None = None,
    ) -> None:
        if replay not in ("windows", "time"):
            raise ValueError(f"replay must be 'windows' or 'time', not {replay!r}")
        if max_age < 0 or max_early < 0:
            raise ValueError("max_age and max_early must not be negative")
        if heir_of is not None:
            need(heir_of, Receiver, "heir_of")
        heir = heir_of._open() if heir_of is not None else None
        flags = _abi.RECEIVER_TRY_PREVIOUS if try_previous else 0
        flags |= _abi.RECEIVER_CLOCK_TRUSTED if clock_trusted else 0
        ids = [_unsigned(i, 64, "own_ids") for i in own_ids]
        own = (ctypes.c_uint64 * len(ids))(*ids)
        config = _abi.ReceiverConfig(
            struct_size=ctypes.sizeof(_abi.ReceiverConfig),
            flags=flags,
            own_ids=own if ids else None,
            own_id_count=len(ids),
            replay_window=_unsigned(replay_window, 32, "replay_window"),
            replay_contexts=_unsigned(replay_contexts, 32, "replay_contexts"),
            engine_bits=_unsigned(engine_bits, 8, "engine_bits"),
            replay_mode=1 if replay == "time" else 0,
            max_age_us=_unsigned(round(max_age * 1e6), 32, "max_age"),
            max_early_us=_unsigned(round(max_early * 1e6), 32, "max_early"),
            max_rate=_unsigned(max_rate, 64, "max_rate"),
            mark_path=None if mark is None else _path(mark),
            heir_of=None if heir is None else heir.pointer,
        )
        if isinstance(groups, DataKey):
            raw = groups._whole()
            self.profile = groups.profile
            self._make(
                "eesp_receiver_free", lambda made: _LIB.eesp_receiver_new_with_key(byref(raw), byref(config), made)
            )
            return
        if not isinstance(groups, Iterable):
            need(groups, (TrustGroup, DataKey), "groups")
        listed = [groups] if isinstance(groups, TrustGroup) else list(groups)
        for group in listed:
            need(group, TrustGroup, "groups")
        self.profile = listed[0].profile if listed else Profile.STATELESS
        handles = [group._open() for group in listed]
        pointers = (ctypes.c_void_p * len(handles))(*(handle.pointer for handle in handles))
        self._make(
            "eesp_receiver_free", lambda made: _LIB.eesp_receiver_new(pointers, len(handles), byref(config), made)
        )

    def opened_size(self, packets: PacketsLike) -> int:
        """How many octets open_into needs for these packets: their lengths less the shortest header and the ICV."""
        return as_packets(packets)._layout(_opened(self.profile))[2]

    def open(
        self,
        packets: PacketsLike,
        *,
        addresses: Addresses | None = None,
        leads: Leads | None = None,
        ipv6: Families = False,
        extension: bool = False,
    ) -> Result:
        """Opens packets into a new buffer.

        tss: leads are the prefixes, behind which packets are copied. Without leads, they must be in front of the packets
        in the buffer, and ipv6 says whether they are for IPv6. psp: with extension, payloads begin with the octets behind
        the header's IV (VC, other fields: 8 * (Hdr Ext Len - 1) octets), and coffsets count from there.
        """
        return self._open_burst(packets, None, addresses, leads, ipv6, extension)

    def open_into(
        self,
        packets: PacketsLike,
        out: Buffer | Packets,
        *,
        addresses: Addresses | None = None,
        leads: Leads | None = None,
        ipv6: Families = False,
        extension: bool = False,
    ) -> Result:
        """Opens packets into the caller's buffer, one behind the other, or to the places that Packets name."""
        return self._open_burst(packets, out, addresses, leads, ipv6, extension)

    def _open_burst(
        self,
        packets: PacketsLike,
        out: Buffer | Packets | None,
        addresses: Addresses | None,
        leads: Leads | None,
        ipv6: Families,
        extension: bool,
    ) -> Result:
        source, headroom, flags = _behind_leads(self.profile, packets, leads, ipv6)
        if extension:
            flags = self._extension() * len(source)
        return self._call(
            run_burst,
            _LIB.eesp_open_burst,
            source,
            out=place_results(source, out, _opened(self.profile)),
            headroom=headroom,
            flags=flags,
            addresses=addresses,
            tells_next=self.profile in _TELL_NEXT,
        )

    def _extension(self) -> list[int]:
        if self.profile is not Profile.PSP:
            raise ValueError(f"profile {self.profile.name.lower()} has no extension in its headers")
        return [_abi.PKT_EXTENSION]

    def open_in_place(
        self,
        packets: Packets,
        *,
        addresses: Addresses | None = None,
        ipv6: Families = False,
        extension: bool = False,
    ) -> Result:
        """Opens packets in place. tss: prefixes are in front of them, and ipv6 says whether they are for IPv6."""
        need(packets, Packets, "packets")
        rooms, flags = self._in_front(packets, ipv6, extension)
        check_rooms(packets, rooms, 0)
        return self._call(
            run_burst,
            _LIB.eesp_open_burst,
            packets,
            headroom=rooms,
            flags=flags,
            addresses=addresses,
            tells_next=self.profile in _TELL_NEXT,
        )

    def _in_front(self, packets: Packets, ipv6: Families, extension: bool) -> tuple[int | list[int], list[int] | None]:
        """Returns headroom and flags of packets that are opened in place."""
        flags = self._extension() * len(packets) if extension else None
        if self.profile is not Profile.TSS:
            _no_fronts(self.profile, None, ipv6)
            return 0, flags
        fronts = fronts_of(None, ipv6, len(packets))
        # One that could not be sealed is empty, and has no lead.
        return [size if length else 0 for size, length in zip(fronts.sizes, packets._lengths)], fronts.flags

    def open_chains(
        self,
        packets: Chains,
        *,
        addresses: Addresses | None = None,
        ipv6: Families = False,
        extension: bool = False,
    ) -> ChainedResult:
        """Opens packets of several segments in place; the whole header must be in the first segment.

        Segments with only header or ICV are left out of the result, or empty. Prefixes: as for open_in_place.
        """
        need(packets, Chains, "packets")
        rooms, flags = self._in_front(packets._starts(), ipv6, extension)
        check_rooms(packets.segments, packets._edge(_each(rooms, len(packets)), False), 0)
        return self._call(
            run_chains,
            _LIB.eesp_open_burst,
            packets,
            sealed=False,
            headroom=rooms,
            flags=flags,
            addresses=addresses,
            tells_next=self.profile in _TELL_NEXT,
        )

    def open_one(
        self,
        packet: Buffer,
        *,
        addresses: Addresses | None = None,
        lead: Buffer | None = None,
        extension: bool = False,
    ) -> Opened:
        """Opens one packet; raises AuthenticationError, HeaderError or another PacketError if it is refused. lead: tss, the prefix."""
        front = _one_lead(self.profile, lead)
        try:
            payload, id, tsc, coffset, ioffset, next_header = self._call(
                run_one,
                _LIB.eesp_open_burst,
                packet,
                _opened(self.profile),
                addresses=addresses,
                lead=front,
                lead_in_front=True,
                flags=self._extension()[0] if extension else 0,
            )
        except AuthenticationError as error:
            if self.profile is Profile.STATELESS and addresses is None and Header.parse(packet).v.addresses:
                why = f"or {_named(Header.parse(packet).v)}: addresses are needed, and none were given"
                raise AuthenticationError(error.status, why) from None
            raise
        return Opened(payload, id, tsc >> 48, tsc & (1 << 48) - 1, coffset, ioffset, next_header)

    def open_udp(self, packets: PacketsLike, udp: Udp, out: Buffer | Packets | None = None) -> Result:
        """Opens IP packets that are UDP datagrams to udp.dport, as seal_udp makes them, into a new buffer or the caller's."""
        source = as_packets(packets)
        return self._call(
            run_burst,
            _with_udp(_LIB.eesp_udp_open_burst, udp),
            source,
            out=place_results(source, out, -_UDP - _SHORTEST - _abi.ICV_LEN),
            moved=True,
            tells_next=self.profile in _TELL_NEXT,
        )

    def open_udp_in_place(self, packets: Packets, udp: Udp) -> Result:
        """Opens IP packets that are UDP datagrams, in place."""
        check_rooms(packets, 0, 0)
        return self._call(
            run_burst,
            _with_udp(_LIB.eesp_udp_open_burst, udp),
            packets,
            tells_next=self.profile in _TELL_NEXT,
        )

    def stats(self) -> Stats:
        """Returns the counts of opened packets."""
        return _stats(self, _LIB.eesp_receiver_stats)

    def set_own_ids(self, ids: Iterable[int]) -> None:
        """Replaces own_ids. IDs that agents give to senders of this process are refused in any case."""
        each = [_unsigned(i, 64, "own_ids") for i in ids]
        array = (ctypes.c_uint64 * len(each))(*each)
        check(self._call(_LIB.eesp_receiver_set_own_ids, byref(array), len(each)))

    def replay_stats(self) -> ReplayStats:
        """Returns the counts of the replay protection."""
        raw = _abi.ReplayStats()
        check(self._call(_LIB.eesp_receiver_replay_stats, byref(raw)))
        return ReplayStats(raw.windows, raw.most, raw.duplicates, raw.old, raw.no_room, raw.made, raw.given_up, raw.early)

    def __repr__(self) -> str:
        kind = "" if self.profile is Profile.STATELESS else f" {self.profile.name}"
        return f"<Receiver{kind}{' closed' if self.closed else ''}>"


def _each(value: int | list[int], count: int) -> list[int]:
    """One value for each of so many packets."""
    return [value] * count if isinstance(value, int) else value


def _behind_leads(
    profile: Profile, packets: PacketsLike, leads: Leads | None, ipv6: Families
) -> tuple[Packets, int | list[int], list[int] | None]:
    """Packets to be opened, with what headroom each and which flags."""
    source = as_packets(packets)
    if profile is not Profile.TSS:
        _no_fronts(profile, leads, ipv6)
        return source, 0, None
    fronts = fronts_of(leads, ipv6, len(source))
    if leads is not None:
        return fronts.join(source), fronts.sizes, fronts.flags
    if not isinstance(packets, Packets):
        raise ValueError("profile tss: leads are needed, or Packets that have theirs in front")
    # Without room for a lead in front of it, a packet fails.
    rooms = [size if at >= size else 0 for at, size in zip(source._offsets, fronts.sizes)]
    return source, rooms, fronts.flags


class Proxy(_Object):
    """Joins two trust domains: opens packets with a receiver and seals them with a sender, in one call.

    The two may be of different profiles.
    """

    def __init__(self, receiver: Receiver, sender: Sender) -> None:
        need(receiver, Receiver, "receiver")
        need(sender, Sender, "sender")
        needs = receiver._open(), sender._open()
        self._profiles, self._v = (receiver.profile, sender.profile), sender.v
        self._tail = sender.tail_len
        self._make(
            "eesp_proxy_free", lambda made: _LIB.eesp_proxy_new(needs[0].pointer, needs[1].pointer, made), needs
        )

    def _extra(self) -> int:
        handle = self._open()
        try:
            header: int = _LIB.eesp_sender_header_len(handle.needs[1].pointer)
        finally:
            del handle
        lead = _abi.TSS_LEAD_IPV6 if self._profiles[1] is Profile.TSS else 0
        return lead + (header or _abi.MAX_HEADER) + self._tail + _opened(self._profiles[0])

    def pass_on(
        self,
        packets: PacketsLike,
        out: Buffer | Packets | None = None,
        *,
        addresses: Addresses | None = None,
        out_addresses: Addresses | None = None,
        leads: Leads | None = None,
        ipv6: Families = False,
    ) -> Result:
        """Opens with addresses and seals with out_addresses (not given: the same), into a new buffer or the caller's.

        ids and tscs are those of the received packets. tss: leads and ipv6 are for received packets; the library writes
        the prefixes of sent packets, from out_addresses.
        """
        _needs_addresses(self._v, addresses if out_addresses is None else out_addresses)
        source, headroom, flags = _behind_leads(self._profiles[0], packets, leads, ipv6)
        return self._call(
            run_burst,
            _LIB.eesp_proxy_burst,
            source,
            out=place_results(source, out, self._extra()),
            headroom=headroom,
            flags=flags,
            addresses=addresses,
            out_addresses=out_addresses,
            moved=self._profiles[1] is Profile.TSS,
            tells_next=self._profiles[0] in _TELL_NEXT,
        )

    def __repr__(self) -> str:
        return f"<Proxy{' closed' if self.closed else ''}>"
