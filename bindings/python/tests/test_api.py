# SPDX-License-Identifier: BSD-3-Clause
"""Objects, errors, and what must never be shown."""

import ctypes
import fcntl
import gc
import ipaddress
import os
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import eesp
from conftest import ZONE_ID
from eesp import _abi, errors
from eesp.kernels import Kdf, KeySet

VALUES = [bytes([i]) * 32 for i in (1, 2, 3)]


@pytest.fixture
def known_group() -> eesp.TrustGroup:
    made = eesp.TrustGroup()
    made.set_root_key(eesp.Level.ZONE, ZONE_ID, [5, 6, 7], VALUES)
    return made


def test_one_packet(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    packet = sender.seal_one(b"0123456789", coffset=1, ioffset=1)
    assert receiver.open_one(packet) == eesp.Opened(b"0123456789", sender.id, 1, 1, 1, 1)
    assert len(packet) == sender.header_len + 10 + eesp.ICV_LEN
    assert sender.next_tsc == 1 << 48 | 2


@pytest.mark.parametrize(
    ("change", "error", "status"),
    [
        (lambda p: p[:-1] + bytes([p[-1] ^ 1]), eesp.AuthenticationError, eesp.Status.AUTH),
        (lambda p: p[:20], eesp.HeaderError, eesp.Status.SHORT),
        (lambda p: b"", eesp.HeaderError, eesp.Status.SHORT),
        (lambda p: bytes([p[0] | 0x10]) + p[1:], eesp.HeaderError, eesp.Status.VERSION),
        (lambda p: p[:1] + bytes([p[1] | 0x70]) + p[2:], eesp.HeaderError, eesp.Status.V),
        (lambda p: p[:10] + bytes([p[10] ^ 0x80]) + p[11:], eesp.NoKeyError, eesp.Status.NO_KEY),
    ],
)
def test_refused_packets(
    change: Callable[[bytes], bytes],
    error: type[eesp.PacketError],
    status: eesp.Status,
    sender: eesp.Sender,
    receiver: eesp.Receiver,
) -> None:
    packet = change(sender.seal_one(b"0123456789"))
    with pytest.raises(error) as caught:
        receiver.open_one(packet)
    assert caught.value.status is status and str(caught.value) == status.describe()
    result = receiver.open([packet])
    assert result.failures() == {0: status} and bytes(result[0]) == b"" and not result.ok


def test_plaintext_of_a_forgery_is_gone(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    packet = bytearray(sender.seal_one(b"secret" * 10))
    packet[-1] ^= 1
    out = bytearray(b"\xff" * 200)
    assert receiver.open_into([packet], out).failures() == {0: eesp.Status.AUTH}
    assert out[:60] == bytes(60)
    place = eesp.Packets(packet, [0], [len(packet)])
    assert receiver.open_in_place(place).good == 0
    header = eesp.Header.parse(packet)
    assert packet[header.len : -16] == bytes(60)


def test_every_status_has_an_exception() -> None:
    assert set(errors.CLASSES) == set(eesp.Status) - {eesp.Status.OK}
    for status, error in errors.CLASSES.items():
        made = errors.error_of(status, "detail")
        assert type(made) is error and made.status is status and "detail" in str(made)
        again = pickle.loads(pickle.dumps(made))
        assert type(again) is error and again.status is status and str(again) == str(made)
    assert isinstance(errors.error_of(-999), eesp.InternalError)


def test_argument_errors_are_value_errors(group: eesp.TrustGroup, fresh_id: int) -> None:
    with pytest.raises(ValueError, match="engine 9 does not fit in 2 engine bits"):
        eesp.Sender(group, fresh_id, engine=9, engine_bits=2)
    for wrong in ({"id": 1 << 32}, {"id": -1}, {"id": 1 << 64}, {"id": 1, "engine_bits": 300}, {"id": 1, "levels": -1}):
        with pytest.raises(ValueError):
            eesp.Sender(group, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        eesp.Sender(group, fresh_id, counter=eesp.Explicit(1 << 48))
    with pytest.raises(ValueError, match="epoch"):
        eesp.Sender(group, fresh_id, counter=eesp.Explicit(1, epoch=1 << 16))
    wrong_offsets: list[int | list[int]] = [256, -1, [1, 2], [300]]
    for offsets in wrong_offsets:
        with eesp.Sender(group, fresh_id) as sender, pytest.raises(ValueError, match="coffset"):
            sender.seal([b"1234"], coffset=offsets)
    with eesp.Sender(group, fresh_id) as sender:
        with pytest.raises(ValueError, match="coffset"):
            sender.seal_one(b"1234", coffset=256)
        with pytest.raises(eesp.HeaderError) as caught:
            sender.seal_one(b"1234", coffset=2)
        assert caught.value.status is eesp.Status.OFFSET
        with pytest.raises(ValueError, match="16 octets"):
            sender.seal([b""], addresses=(b"123", b"1234"))
        with pytest.raises(ValueError, match="pairs"):
            sender.seal([b"", b""], addresses=[("::1", "::2")])


def test_root_keys(known_group: eesp.TrustGroup) -> None:
    group = known_group
    assert group.root_key_info(eesp.Level.ZONE) == eesp.RootKeyInfo(ZONE_ID, 5, 6, 7, True)
    with group.root_key_der(eesp.Level.ZONE) as der, eesp.TrustGroup() as other:
        other.set_root_key_der(eesp.Level.USER, der)
        assert other.root_key_info(eesp.Level.USER).id == ZONE_ID
        view = der.view()
        assert any(view)
    assert not any(view)
    group.rotate(eesp.Level.ZONE, 8, bytes(range(32)))
    assert group.root_key_info(eesp.Level.ZONE) == eesp.RootKeyInfo(ZONE_ID, 6, 7, 8, True)
    group.rotate(eesp.Level.ZONE, 9)
    with pytest.raises(eesp.EespError):
        group.rotate(eesp.Level.ZONE, 9)
    with pytest.raises(ValueError, match="32 octets"):
        group.rotate(eesp.Level.ZONE, 10, b"short")
    with pytest.raises(eesp.RootKeyError):
        group.set_root_key_der(eesp.Level.ZONE, b"not DER")
    with pytest.raises(ValueError, match="three"):
        group.set_root_key(eesp.Level.ZONE, ZONE_ID, [1, 2], VALUES)
    group.remove_root_key(eesp.Level.ZONE)
    with pytest.raises(eesp.NotFoundError):
        group.remove_root_key(eesp.Level.ZONE)
    with pytest.raises(LookupError):
        group.root_key_info(eesp.Level.ZONE)


def test_levels(known_group: eesp.TrustGroup, fresh_id: int) -> None:
    group = known_group
    group.generate_root_key(eesp.Level.TASK, b"task of the tests")
    both = eesp.Levels.ZONE | eesp.Levels.TASK
    with eesp.Sender(group, fresh_id, options=True, levels=both) as sender, eesp.Receiver(group) as receiver:
        packet = sender.seal_one(b"x")
        assert [o.level for o in eesp.Header.parse(packet).options] == [eesp.Level.ZONE, eesp.Level.TASK]
        assert receiver.open_one(packet).payload == b"x"
    group.set_default_levels(eesp.Levels.ZONE)
    context = eesp.Context(1, 1)
    zone, task = (eesp.Context(1, 1, levels=level) for level in (eesp.Levels.ZONE, eesp.Levels.TASK))
    with group.derive_keys([context, zone, task]) as keys:
        assert keys[0] == keys[1] != keys[2]


def test_rotation(known_group: eesp.TrustGroup, fresh_id: int) -> None:
    with eesp.Sender(known_group, fresh_id, options=True) as sender, eesp.Receiver(known_group) as receiver:
        before = sender.seal_one(b"sealed before")
        known_group.rotate(eesp.Level.ZONE, 8)
        assert receiver.open_one(before).payload == b"sealed before"
        known_group.rotate(eesp.Level.ZONE, 9)
        with pytest.raises(eesp.NoKeyError):
            receiver.open_one(before)


@pytest.mark.parametrize("v", list(eesp.V))
def test_addresses(v: eesp.V, group: eesp.TrustGroup, receiver: eesp.Receiver, fresh_id: int) -> None:
    one, two, other = "192.0.2.1", ipaddress.ip_address("2001:db8::2"), b"\xc0\x00\x02\x63"
    uses_src, uses_dst = v & 7 >= 1, v & 7 == 2
    with eesp.Sender(group, fresh_id, v=v) as sender:
        sealed = sender.seal([b"a", b"b"], addresses=[(one, two), (two, one)])
        same = sender.seal_one(b"c", addresses=(one, two))
    assert receiver.open(sealed, addresses=[(b"\xc0\x00\x02\x01", two), (two, one)]).ok
    assert receiver.open(sealed, addresses=(one, two)).good == (1 if uses_src else 2)
    assert receiver.open(sealed, addresses=[(one, other), (two, other)]).good == (0 if uses_dst else 2)
    # Addresses of one call do not stay for the next.
    assert receiver.open(sealed).good == (0 if uses_src else 2)
    assert receiver.open_one(same, addresses=("::ffff:192.0.2.1", two)).payload == b"c"


def test_own_ids(group: eesp.TrustGroup, sender: eesp.Sender) -> None:
    with eesp.Receiver(group, own_ids=[1, sender.id]) as receiver, pytest.raises(eesp.ReflectedError):
        receiver.open_one(sender.seal_one(b"x"))


def test_try_previous(known_group: eesp.TrustGroup, fresh_id: int) -> None:
    with eesp.Sender(known_group, fresh_id) as sender:
        packet = sender.seal_one(b"x")
    known_group.rotate(eesp.Level.ZONE, 8)
    with eesp.Receiver(known_group) as receiver, pytest.raises(eesp.AuthenticationError):
        receiver.open_one(packet)
    with eesp.Receiver(known_group, try_previous=True) as receiver:
        assert receiver.open_one(packet).payload == b"x"


def test_many_groups(group: eesp.TrustGroup, sender: eesp.Sender, known_group: eesp.TrustGroup) -> None:
    packet = sender.seal_one(b"x")
    with eesp.Receiver([known_group, group]) as receiver:
        assert receiver.open_one(packet).payload == b"x"
    with eesp.Receiver([known_group]) as receiver, pytest.raises(eesp.NoKeyError):
        receiver.open_one(packet)
    with pytest.raises(ValueError):
        eesp.Receiver([])


def test_data_keys(group: eesp.TrustGroup, receiver: eesp.Receiver, fresh_id: int) -> None:
    context = eesp.Context(fresh_id, 3, eesp.V.ID_SRC, src="192.0.2.1")
    with group.export_data_key(context) as key:
        assert (key.id, key.epoch, key.v, len(key.key)) == (fresh_id, 3, eesp.V.ID_SRC, 32)
        handed = eesp.DataKey(id=key.id, epoch=key.epoch, v=key.v, src=key.src, key=key.key, options=key.options)
        octets = key.key
    assert octets == bytes(32)
    with eesp.Sender(handed, counter=eesp.Explicit(5)) as sender, eesp.Receiver(handed) as holder:
        packet = sender.seal_one(b"x", addresses=("192.0.2.1", "192.0.2.2"))
        assert receiver.open_one(packet, addresses=("192.0.2.1", "::")).counter == 5
        assert holder.open_one(packet, addresses=("192.0.2.1", "::")).payload == b"x"
        with eesp.Sender(group, fresh_id + 1_000_000) as another, pytest.raises(eesp.ContextError):
            holder.open_one(another.seal_one(b"y"))
    with pytest.raises(ValueError, match="16 or 32"):
        eesp.DataKey(id=1, epoch=1, key=b"short")


def test_reserved_counters(group: eesp.TrustGroup, receiver: eesp.Receiver, fresh_id: int, tmp_path: Path) -> None:
    counter = eesp.Reserved(tmp_path / "mark", epoch=4, run=100)
    with eesp.Sender(group, fresh_id, counter=counter) as sender:
        first = receiver.open_one(sender.seal_one(b""))
    with eesp.Sender(group, fresh_id, counter=counter) as sender:
        second = receiver.open_one(sender.seal_one(b""))
    assert first.epoch == second.epoch == 4 and second.counter > first.counter
    with pytest.raises(eesp.CounterError) as caught:
        eesp.Sender(group, fresh_id + 2_000_000, counter=eesp.Reserved(tmp_path / "no" / "such", epoch=4))
    assert caught.value.status is eesp.Status.STATE


def test_counters_are_not_used_twice(group: eesp.TrustGroup, fresh_id: int) -> None:
    with eesp.Sender(group, fresh_id, counter=eesp.Explicit(1, epoch=1)) as sender:
        sender.seal([b""] * 10)
        with pytest.raises(eesp.ExistsError, match="other counter settings"):
            eesp.Sender(group, fresh_id, counter=eesp.Explicit(2, epoch=1))
    with pytest.raises(eesp.ExistsError):
        eesp.Sender(group, fresh_id, counter=eesp.Explicit(10, epoch=1))
    with eesp.Sender(group, fresh_id, counter=eesp.Explicit(2**48 - 3, epoch=1)) as sender:
        result = sender.seal([b""] * 5)
    assert 0 < result.good < 5 and set(result.failures().values()) == {eesp.Status.EXHAUSTED}
    with pytest.raises(eesp.CounterError):
        result.raise_for_status()


def test_clock_epochs(group: eesp.TrustGroup, fresh_id: int) -> None:
    import time

    clock = eesp.Clock(epoch=9, epoch_start_ns=time.time_ns() - 10**9)
    with eesp.Sender(group, fresh_id, counter=clock) as sender:
        assert eesp.Header.parse(sender.seal_one(b"")).epoch == 9


def test_proxy(group: eesp.TrustGroup, sender: eesp.Sender, receiver: eesp.Receiver, fresh_id: int) -> None:
    payloads = [b"a" * 5, b"b" * 700]
    with eesp.TrustGroup() as inside:
        inside.generate_root_key(eesp.Level.USER, b"user of the tests")
        out_sender = eesp.Sender(inside, fresh_id + 3_000_000, options=True, v=eesp.V.LONG_ID_SRC)
        with eesp.Proxy(receiver, out_sender) as proxy, eesp.Receiver(inside) as last:
            out_sender.close()  # the proxy keeps what it needs
            sealed = sender.seal(payloads, coffset=1)
            passed = proxy.pass_on(sealed, out_addresses=[("192.0.2.1", "::"), ("192.0.2.2", "::")])
            assert passed.ok and passed.ids.tolist() == [sender.id] * 2
            opened = last.open(passed, addresses=[("192.0.2.1", "::"), ("192.0.2.2", "::")])
            assert [bytes(p) for p in opened] == payloads and opened.coffsets == b"\1\1"
            again = proxy.pass_on(sender.seal(payloads), bytearray(2000), addresses=("::", "::"))
            assert last.open(again, addresses=("::", "::")).ok
            bad = bytearray(sealed[0])
            bad[-1] ^= 1
            out = ("192.0.2.1", "::")
            assert proxy.pass_on([bad, sealed[1]], out_addresses=out).failures() == {0: eesp.Status.AUTH}
            with pytest.raises(ValueError, match="v=LONG_ID_SRC: addresses are needed"):
                proxy.pass_on(sealed)


def test_stats(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    sealed = sender.seal([b"12345"] * 3)
    receiver.open([*sealed, b"junk" * 20])
    assert sender.stats() == eesp.Stats(sum(sealed.lengths), {eesp.Status.OK: 3})
    assert receiver.stats().octets == 15
    assert receiver.stats().packets[eesp.Status.OK] == 3 and sum(receiver.stats().packets.values()) == 4


def test_closed_objects(group: eesp.TrustGroup, sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    packet = sender.seal_one(b"x")
    group.close()
    group.close()
    assert group.closed and "closed" in repr(group)
    assert receiver.open_one(packet).payload == b"x"  # keys live as long as something uses them
    sender.close()
    receiver.close()
    uses: list[Callable[[], object]] = [
        lambda: group.derive_keys([]),
        lambda: eesp.Sender(group, 1),
        lambda: eesp.Receiver(group),
        lambda: sender.seal([]),
        lambda: sender.header_len,
        lambda: receiver.open_one(packet),
        lambda: eesp.Proxy(receiver, sender),
        lambda: sender.__enter__(),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_traceback_keeps_nothing_open(group: eesp.TrustGroup, fresh_id: int) -> None:
    counter = eesp.Explicit(1, epoch=1)
    sender = eesp.Sender(group, fresh_id, counter=counter)
    handle = weakref.ref(sender)
    with pytest.raises(eesp.HeaderError) as caught:
        sender.seal_one(b"", coffset=1)
    sender.close()
    # With the first one gone, its ID may have other settings.
    eesp.Sender(group, fresh_id, counter=eesp.Explicit(1000, epoch=1)).close()
    assert caught.value and handle() is sender


def test_objects_go_with_their_last_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    freed = []
    real = _abi.LIB.eesp_group_free

    def free(pointer: int) -> None:
        freed.append(pointer)
        real(pointer)

    monkeypatch.setattr(_abi.LIB, "eesp_group_free", free)
    with eesp.TrustGroup():
        assert not freed
    assert len(freed) == 1
    eesp.TrustGroup()
    gc.collect()
    assert len(freed) == 2


def secret_texts(value: bytes) -> list[str]:
    return [value.hex(), repr(value)[2:-1], str(list(value))[1:-1]]


def test_missing_addresses(group: eesp.TrustGroup, receiver: eesp.Receiver, fresh_id: int) -> None:
    """Missing addresses are refused, not taken as zeros."""
    for v in eesp.V:
        ends = ("192.0.2.1", "2001:db8::1") if v.addresses else None
        context = eesp.Context(fresh_id + 5_000_000 + v, 1, v, src=ends and ends[0], dst=ends and ends[1])
        with eesp.Sender(group, fresh_id, v=v) as sender, group.export_data_key(context) as key:
            keyless = eesp.Sender(key, counter=eesp.Explicit(1))
            seals: list[Callable[..., object]] = [
                lambda **a: sender.seal([b"x"], **a).raise_for_status(),
                lambda **a: sender.seal_one(b"x", **a),
                lambda **a: sender.seal_into([b"x"], bytearray(200), **a).raise_for_status(),
                lambda **a: sender.seal_in_place(eesp.Packets(bytearray(200), [100], [9]), **a).raise_for_status(),
                lambda **a: keyless.seal_one(b"x", **a),
            ]
            for seal in seals:
                seal(addresses=ends or ("::", "::"))
                if not ends:
                    seal()
                    continue
                with pytest.raises(ValueError, match=f"v={v.name}: addresses are needed"):
                    seal()
            keyless.close()
            packet = sender.seal_one(b"x", addresses=ends)
            assert receiver.open_one(packet, addresses=ends).payload == b"x"
            if ends:
                with pytest.raises(eesp.AuthenticationError, match=f"wrong ICV: or v={v.name}: addresses are needed"):
                    receiver.open_one(packet)
                for wrong in ({}, {"dst": ends[1]}, {"src": ends[0]} if v.addresses > 1 else {}):
                    with pytest.raises(ValueError, match=f"v={v.name}: src"):
                        group.derive_keys([eesp.Context(fresh_id, 1, v, **wrong)])  # type: ignore[arg-type]
                    with pytest.raises(ValueError, match=f"v={v.name}: src"):
                        eesp.DataKey(id=1, key=bytes(16), v=v, **wrong)  # type: ignore[arg-type]
    ip = bytes.fromhex("4500001800000000401100000a0000010a000002") + b"data"
    with eesp.Sender(group, fresh_id) as sender:
        for udp in (eesp.Udp(), eesp.Udp(src="2001:db8::1"), eesp.Udp(dst="2001:db8::1"), eesp.Udp(src="192.0.2.1")):
            assert sender.seal_udp([ip], udp).failures() == {0: eesp.Status.ARGUMENT}


def test_nothing_secret_is_shown(known_group: eesp.TrustGroup, fresh_id: int) -> None:
    context = eesp.Context(fresh_id, 1)
    der, keys = known_group.root_key_der(eesp.Level.ZONE), known_group.derive_keys([context])
    key = known_group.export_data_key(context)
    with eesp.Sender(known_group, fresh_id) as sender, eesp.Receiver(known_group) as receiver:
        proxy = eesp.Proxy(receiver, sender)
        shown: list[Any] = [known_group, der, keys, keys.data, key, sender, receiver, proxy, sender.seal([b"payload"])]
        texts = [f"{o!r} {o} {o!s:>5}" for o in shown]
    for value in [*VALUES, bytes(keys[0]), bytes(key.key), b"payload"]:
        for text in secret_texts(value):
            assert not any(text in t for t in texts), text
    for o in [*shown[:-1], key._raw]:
        with pytest.raises(TypeError):
            pickle.dumps(o)


def test_secrets_are_wiped(known_group: eesp.TrustGroup) -> None:
    with known_group.derive_keys([eesp.Context(1, 1), eesp.Context(2, 1)]) as keys:
        assert len(keys) == 2 and keys[0] != keys[1] and len(keys[:]) == 2 and bytes(keys[-1]) == bytes(keys[1])
        with pytest.raises(IndexError):
            keys[2]
        view = keys[0]
        assert any(view)
    assert not any(view)
    assert any(known_group.derive_keys([eesp.Context(1, 1)])[0])
    secret = eesp.Secret(b"12345678")
    at = ctypes.addressof((ctypes.c_char * 8).from_buffer(secret.view()))
    kept = secret.view()  # keeps the memory where it is
    assert ctypes.string_at(at, 8) == b"12345678"
    secret.wipe()
    assert ctypes.string_at(at, 8) == bytes(8) == bytes(kept)


def test_nothing_takes_what_was_wiped(known_group: eesp.TrustGroup) -> None:
    """Its zeros would be a key that everybody knows."""
    context = eesp.Context(1, 1)
    with known_group.derive_keys([context]) as keys, eesp.Secret(bytes(range(32))) as secret:
        pass
    with known_group.export_data_key(context) as key:
        whole = key.to_octets()
    whole.wipe()
    slots = eesp.TrustGroup(profile=eesp.Profile.PSP)
    calls: list[Callable[[], object]] = [
        lambda: slots.set_key(0, secret),
        lambda: slots.rotate_key(secret),
        lambda: known_group.rotate(eesp.Level.ZONE, 99, secret),
        lambda: Kdf(secret),
        lambda: KeySet(keys),
        lambda: keys[0],
        secret.view,
        secret.hex,
        secret.copy,
        lambda: secret[0],
        lambda: secret[:4],
        lambda: secret + b"x",
        key.to_octets,
        lambda: eesp.Sender(key),
        lambda: eesp.Receiver(key),
        lambda: eesp.DataKey.from_octets(whole),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="was wiped"):
            call()
    assert "wiped" in f"{secret}" and "wiped" in f"{keys}" and "wiped" in f"{key}"
    assert len(secret) == 32 and secret == secret and secret != bytes(32)


def test_derive_errors(known_group: eesp.TrustGroup) -> None:
    with pytest.raises(eesp.NoKeyError):
        known_group.derive_keys([eesp.Context(1, 1, levels=eesp.Levels.TASK)])
    with pytest.raises(ValueError):
        known_group.derive_keys([eesp.Context(1, 1 << 16)])
    with pytest.raises(eesp.EespError):
        known_group.derive_keys([eesp.Context(1, 1, v=7)])  # type: ignore[arg-type]
    assert len(known_group.derive_keys([])) == 0


def test_library() -> None:
    assert eesp.library_version() == eesp.__version__
    assert eesp.backend() in eesp.backends() and eesp.backends()["generic"]
    before = eesp.backend()
    assert before is not None
    eesp.select_backend("generic")
    assert eesp.backend() == "generic"
    eesp.select_backend(before)
    with pytest.raises(eesp.BackendError):
        eesp.select_backend("no such")
    eesp.self_test()
    eesp.thread_init()


def test_everything_public_is_there_and_described() -> None:
    for name in eesp.__all__:
        thing = getattr(eesp, name)
        if isinstance(thing, type) or callable(thing) and not hasattr(thing, "__args__"):
            assert thing.__doc__, name
            for member, value in vars(thing).items() if isinstance(thing, type) else ():
                if not member.startswith("_") and callable(value):
                    assert value.__doc__, f"{name}.{member}"


def test_a_view_keeps_the_key(known_group: eesp.TrustGroup) -> None:
    context = eesp.Context(id=1, epoch=2)
    view = known_group.export_data_key(context).key
    with known_group.derive_keys([context]) as keys:
        assert view == keys[0]


def test_nul_is_refused(group: eesp.TrustGroup, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        eesp.Sender(group, 1, counter=eesp.Reserved(f"{tmp_path}/state\0more"))
    with pytest.raises(ValueError):
        eesp.select_backend("auto\0more")
    assert not list(tmp_path.iterdir())


def test_a_path_that_is_not_text(group: eesp.TrustGroup, fresh_id: int) -> None:
    with pytest.raises(eesp.CounterError):
        eesp.Sender(group, fresh_id, counter=eesp.Reserved(os.fsdecode(b"/no\xff/such/state")))


def test_one_process_of_a_host_has_an_id(group: eesp.TrustGroup, fresh_id: int, tmp_path: Path) -> None:
    """An ID is locked against another copy of the library; engine numbers are in the counter's lowest bits."""
    with eesp.Sender(group, fresh_id, engine=5, engine_bits=4, lock_dir=tmp_path) as sender:
        assert sender.next_tsc & 15 == 5
        locked = sorted(p.name for p in tmp_path.iterdir())
        assert locked and all(name.startswith("eesp-") for name in locked)
        fd = os.open(next(p for p in tmp_path.iterdir() if p.name.endswith("-4-5")), os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)
    assert not [p for p in tmp_path.iterdir() if p.name.endswith("-4-5")]
    with pytest.raises(ValueError, match="NUL"):
        eesp.Sender(group, fresh_id, lock_dir="a\0b")
    with pytest.raises(eesp.CounterError, match="lock .*no such file"):
        eesp.Sender(group, fresh_id + 1, lock_dir=tmp_path / "none")
