# SPDX-License-Identifier: BSD-3-Clause
"""Buffers of every kind, and what is refused."""

import array
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eesp
from conftest import examples

PAYLOADS = [b"", b"a", b"four", bytes(range(256)), b"x" * 1500]


def texts(packets: eesp.Packets) -> list[bytes]:
    return [bytes(p) for p in packets]


def as_mmap(data: bytes) -> mmap.mmap:
    made = mmap.mmap(-1, max(len(data), 1))
    made[: len(data)] = data
    return made


KINDS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "read-only view": lambda data: memoryview(bytearray(data)).toreadonly(),
    "array": lambda data: array.array("B", data),
    "numpy": lambda data: np.frombuffer(data, np.uint8),
    "numpy of int32": lambda data: np.frombuffer(data, np.int32),
    "numpy, 2-D": lambda data: np.frombuffer(data, np.uint8).reshape(2, -1),
    "mmap": as_mmap,
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_buffers(name: str, sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    data = bytes(range(64))
    buffer = KINDS[name](data)
    whole = eesp.Packets(buffer, [0, 5], [5, 59])
    assert texts(receiver.open(sender.seal(whole))) == [data[:5], data[5:]]
    if name != "mmap":
        assert texts(receiver.open(sender.seal([buffer, buffer]))) == [data, data]
        assert receiver.open_one(sender.seal_one(buffer)).payload == data


def test_numpy_is_not_copied(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    plain = np.arange(4 * 100, dtype=np.uint8).reshape(4, 100)
    sealed = np.zeros((4, 300), np.uint8)
    result = sender.seal_into(eesp.Packets.rows(plain), eesp.Packets.rows(sealed))
    assert result.ok
    assert np.shares_memory(np.asarray(result[3]), sealed)
    assert sealed[2, : result.lengths[2]].tobytes() == bytes(result[2])
    status = np.asarray(result.status)
    assert status.dtype == np.int32 and np.shares_memory(status, np.asarray(memoryview(result.status)))
    opened = np.zeros_like(plain)
    back = receiver.open_into(eesp.Packets.rows(sealed, np.asarray(result.lengths)), eesp.Packets.rows(opened))
    assert back.ok and (opened == plain).all()


def test_open_into_a_buffer(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    sealed = sender.seal(PAYLOADS)
    need = receiver.opened_size(sealed)
    assert texts(receiver.open_into(sealed, bytearray(need))) == PAYLOADS
    with pytest.raises(ValueError, match=f"{need} are needed"):
        receiver.open_into(sealed, bytearray(need - 1))


def test_numpy_offsets(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    data = bytes(range(100))
    for dtype in (np.int32, np.int64, np.uint16, np.uint64):
        packets = eesp.Packets(data, np.array([0, 10, 60, 100], dtype))
        assert packets.lengths.tolist() == [10, 50, 40]
        assert texts(receiver.open(sender.seal(packets))) == [data[:10], data[10:60], data[60:]]


def test_in_place(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    slot, room = 512, eesp.MAX_HEADER
    arena = bytearray(slot * len(PAYLOADS[:4]))
    for i, payload in enumerate(PAYLOADS[:4]):
        arena[i * slot + room : i * slot + room + len(payload)] = payload
    places = eesp.Packets(arena, range(room, len(arena), slot), map(len, PAYLOADS[:4]))
    assert texts(places) == PAYLOADS[:4]
    sealed = sender.seal_in_place(places)
    assert sealed.ok
    assert [o % slot for o in sealed.offsets] == [room - sender.header_len] * 4
    opened = receiver.open_in_place(sealed)
    assert opened.ok and texts(opened) == PAYLOADS[:4] == texts(places)


def test_in_place_refusals(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    h = sender.header_len
    for buffer, offsets, lengths, message in (
        (bytes(300), [100], [10], "read-only"),
        (bytearray(300), [h - 1], [10], "headroom"),
        (bytearray(300), [300 - 16 - 9], [10], "tailroom"),
        (bytearray(300), [h, h + 10 + 16 + h - 1], [10, 10], "headroom"),
        (bytearray(300), [h + 10 + 16 + h - 1, h], [10, 10], "headroom"),
    ):
        with pytest.raises(ValueError, match=message):
            sender.seal_in_place(eesp.Packets(buffer, offsets, lengths))
    with pytest.raises(ValueError, match="out of range"):
        sender.seal_in_place(eesp.Packets(bytearray(300), [100], [10]), headroom=-1)
    with pytest.raises(ValueError, match="headroom"):
        receiver.open_in_place(eesp.Packets(bytearray(300), [0, 50], [60, 60]))


def test_out_refusals(sender: eesp.Sender) -> None:
    packets = eesp.Packets.join(PAYLOADS)
    need = sender.sealed_size(packets)
    assert sender.seal_into(packets, bytearray(need)).ok
    with pytest.raises(ValueError, match=f"out has {need - 1} octets, {need} are needed"):
        sender.seal_into(packets, bytearray(need - 1))
    with pytest.raises(ValueError, match="read-only"):
        sender.seal_into(packets, bytes(need))
    with pytest.raises(ValueError, match="read-only"):
        sender.seal_into([b"x"], eesp.Packets(bytes(100), [0], [100]))
    with pytest.raises(ValueError, match="strided"):
        sender.seal_into(packets, memoryview(bytearray(2 * need))[::2])
    with pytest.raises(ValueError, match="strided"):
        sender.seal_into(packets, np.zeros((need, 2), np.uint8)[:, 0])
    with pytest.raises(ValueError, match="3 places for 5"):
        sender.seal_into(packets, eesp.Packets(bytearray(need), [0, 0, 0], [9, 9, 9]))
    arena = bytearray(1000)
    with pytest.raises(ValueError, match="overlaps"):
        sender.seal_into(eesp.Packets(arena, [0], [10]), arena)
    released = memoryview(bytearray(need))
    released.release()
    with pytest.raises(ValueError, match="released"):
        sender.seal_into(packets, released)


def test_places_that_are_too_small(sender: eesp.Sender) -> None:
    out = bytearray(300)
    size = sender.sealed_size([b"12345"])
    result = sender.seal_into([b"12345"] * 2, eesp.Packets(out, [0, 150], [size, size - 1]))
    assert (result.good, result.failures()) == (1, {1: eesp.Status.ROOM})
    assert out[150:] == bytes(150)
    with pytest.raises(eesp.ArgumentError) as caught:
        result.raise_for_status()
    assert caught.value.status == eesp.Status.ROOM


@pytest.mark.parametrize(
    ("buffer", "offsets", "lengths", "message"),
    [
        (b"1234", [0], [5], "beyond the buffer"),
        (b"1234", [5], [0], "beyond the buffer"),
        (b"1234", [2**64 - 1], [2], "beyond the buffer"),
        (b"1234", [-1], [2], "numbers from 0"),
        (b"1234", np.array([-1]), [1], "numbers from 0"),
        (b"1234", [0.5], [1], "numbers from 0"),
        (b"1234", [0, 1], [1], "2 offsets, but 1 lengths"),
        (b"1234", [0, 3, 2], None, "must not decrease"),
        (b"1234", [0, 5], None, "beyond the buffer"),
        (b"1234", [], None, "one more"),
        (memoryview(b"12345678")[::2], [0], [1], "strided"),
    ],
)
def test_packets_refusals(buffer: Any, offsets: Any, lengths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        eesp.Packets(buffer, offsets, lengths)


def test_what_is_no_list_of_buffers(sender: eesp.Sender) -> None:
    with pytest.raises(TypeError, match="seal_one"):
        sender.seal(b"one packet")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        sender.seal(["text"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="packet 1 is strided"):
        sender.seal([b"1", memoryview(b"1234")[::2]])
    with pytest.raises(ValueError, match="two-dimensional"):
        eesp.Packets.rows(b"1234")
    with pytest.raises(ValueError, match="longer than its row"):
        eesp.Packets.rows(np.zeros((2, 4), np.uint8), [4, 5])


def test_the_buffer_is_held() -> None:
    data = bytearray(100)
    packets = eesp.Packets(data, [0], [10])
    with pytest.raises(BufferError):
        data.extend(bytes(10_000))
    del packets
    data.extend(bytes(10_000))


def test_released_after_packets_were_made(sender: eesp.Sender) -> None:
    view = memoryview(bytearray(b"some text"))
    packets = eesp.Packets(view, [0], [9])
    view.release()
    assert sender.seal(packets).ok  # the packets have an export of their own


def test_sequence_protocol() -> None:
    packets = eesp.Packets(b"abcdef", [0, 1, 3, 6])
    assert len(packets) == 3 and texts(packets) == [b"a", b"bc", b"def"]
    assert bytes(packets[-1]) == b"def" and [bytes(p) for p in packets[1:]] == [b"bc", b"def"]
    assert packets.offsets.tolist() == [0, 1, 3] and packets.offsets.readonly
    with pytest.raises(IndexError):
        packets[3]
    assert "3 in 6 octets" in repr(packets)


def test_empty_bursts(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    assert sender.seal([]).ok and receiver.open([]).good == 0
    assert sender.seal_into([], bytearray()).ok
    assert eesp.Packets.rows(np.zeros((0, 4), np.uint8)).lengths.tolist() == []


@pytest.mark.parametrize("count", [4095, 4096, 4097, 10_000])
def test_long_bursts(count: int, sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    """Bursts that are passed on in several calls keep their order, their offsets and their statuses."""
    payloads = [i.to_bytes(4, "big") * (i % 5) for i in range(count)]
    sealed = sender.seal(payloads, coffset=[min(i % 5, 2) for i in range(count)])
    first = sealed.tscs[0]
    assert sealed.good == count and list(sealed.tscs) == list(range(first, first + count))
    damaged = bytearray(sealed.buffer)
    bad = {0, 4094, count - 1}
    for i in bad:
        damaged[sealed.offsets[i] + sealed.lengths[i] - 1] ^= 1
    opened = receiver.open(eesp.Packets(damaged, sealed.offsets, sealed.lengths))
    assert opened.failures() == dict.fromkeys(sorted(bad), eesp.Status.AUTH)
    assert opened.good == count - len(bad)
    assert texts(opened) == [b"" if i in bad else p for i, p in enumerate(payloads)]
    assert [c for i, c in enumerate(opened.coffsets) if i not in bad] == [
        min(i % 5, 2) for i in range(count) if i not in bad
    ]


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 40)), max_size=40), st.data())
def test_any_layout(
    sender: eesp.Sender, receiver: eesp.Receiver, parts: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    """Payloads anywhere in a buffer, sealed into places with gaps: nothing else is touched."""
    buffer, offsets = bytearray(), []
    for payload, gap in parts:
        buffer += b"\xee" * gap
        offsets.append(len(buffer))
        buffer += payload
    packets = eesp.Packets(buffer, offsets, [len(p) for p, _ in parts])
    coffsets = [data.draw(st.integers(0, min(len(p) // 4, 255))) for p, _ in parts]
    before = bytes(buffer)
    extra = sender.header_len + eesp.ICV_LEN
    out, places = bytearray(), []
    for payload, gap in parts:
        out += b"\xdd" * gap
        places.append(len(out))
        out += bytes(len(payload) + extra)
    sealed = sender.seal_into(
        packets, eesp.Packets(out, places, [len(p) + extra for p, _ in parts]), coffset=coffsets
    )
    assert sealed.ok and bytes(buffer) == before
    for (payload, gap), at in zip(parts, places):
        assert out[at - gap : at] == b"\xdd" * gap
    opened = receiver.open(sealed)
    assert texts(opened) == [p for p, _ in parts]
    assert list(opened.coffsets) == coffsets


def test_the_longest_packet(sender: eesp.Sender, receiver: eesp.Receiver) -> None:
    longest = bytes(eesp.MAX_LEN)
    assert receiver.open_one(sender.seal_one(longest)).payload == longest
    for size in (eesp.MAX_LEN + 1, 2 * eesp.MAX_LEN):
        with pytest.raises(eesp.ArgumentError) as caught:
            sender.seal_one(bytes(size))
        assert caught.value.status is eesp.Status.TOO_LONG
        assert sender.seal([bytes(size)]).failures() == {0: eesp.Status.TOO_LONG}


def test_what_buffer_gives_may_be_released() -> None:
    base = bytearray(b"A" * 100)
    packets = eesp.Packets(base, [0], [100])
    with packets.buffer as view:
        assert len(view) == 100
    with pytest.raises(BufferError):
        base.clear()
    assert texts(packets) == [b"A" * 100]


@pytest.mark.parametrize("kind", ["array", "numpy", "numpy of int32", "mmap"])
def test_numbers_are_not_packets(kind: str, sender: eesp.Sender) -> None:
    with pytest.raises(TypeError):
        sender.seal(KINDS[kind](b"12345678"))
