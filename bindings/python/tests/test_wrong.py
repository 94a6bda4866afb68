# SPDX-License-Identifier: BSD-3-Clause
"""Wrong arguments are refused, and the error names them."""

import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import eesp
from eesp.kernels import Kdf, KeySet, Message


@pytest.fixture
def group() -> eesp.TrustGroup:
    made = eesp.TrustGroup()
    made.generate_root_key(eesp.Level.ZONE, b"example zone 01.")
    return made


def test_levels_are_not_cut(group: eesp.TrustGroup) -> None:
    """ctypes would take level 2^32 for level 0."""
    level: Any = 1 << 32
    der = group.root_key_der(eesp.Level.ZONE)
    values = [bytes([i]) * 32 for i in range(3)]
    calls: list[Callable[[], object]] = [
        lambda: group.rotate(level, index=77),
        lambda: group.remove_root_key(level),
        lambda: group.generate_root_key(level, bytes(16)),
        lambda: group.set_root_key(level, bytes(16), (1, 2, 3), values),
        lambda: group.set_ring(level, bytes(16), (1, 2, 3), values),
        lambda: group.set_root_key_der(level, der),
        lambda: group.root_key_der(level),
        lambda: group.root_key_info(level),
        lambda: group.usage(level),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            call()
    assert bytes(group.root_key_der(eesp.Level.ZONE).view()) == bytes(der.view())


def test_names_are_not_cut(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="name has a NUL"):
        eesp.TrustGroup.follow("net\0x", socket=tmp_path / "none", timeout=0.01)


def test_errors_name_the_argument(group: eesp.TrustGroup) -> None:
    sender: Any = eesp.Sender(group, id=0xA1)
    receiver: Any = eesp.Receiver(group)
    loose: Any = group
    make: Any = eesp
    udp = eesp.Udp(src="192.0.2.1", dst="192.0.2.2")
    cases: list[tuple[str, Callable[[], object]]] = [
        ("group: TrustGroup or DataKey", lambda: make.Sender(receiver, id=1)),
        ("group: TrustGroup or DataKey", lambda: make.Sender(None, id=1)),
        ("groups: TrustGroup or DataKey", lambda: make.Receiver(sender)),
        ("groups: TrustGroup is", lambda: make.Receiver([group, sender])),
        ("heir_of: Receiver", lambda: make.Receiver(group, heir_of=5)),
        ("receiver: Receiver", lambda: make.Proxy(sender, receiver)),
        ("sender: Sender", lambda: make.Proxy(receiver, receiver)),
        ("counter: Clock or Explicit or Reserved", lambda: make.Sender(group, id=1, counter="clock")),
        ("id: a number", lambda: make.Sender(group, id="7")),
        ("replay_window: a number", lambda: make.Receiver(group, replay_window="64")),
        ("extra: a buffer", lambda: make.Sender(group, id=1, extra=5)),
        ("context: Context", lambda: loose.export_data_key(None)),
        ("context: Context", lambda: loose.derive_keys([5])),
        ("group: TrustGroup", lambda: make.derive_keys(None, [])),
        ("id: a buffer", lambda: loose.generate_root_key(eesp.Level.ZONE, 16)),
        ("level: a number", lambda: loose.rotate("0", 5)),
        ("timeout: ", lambda: loose.wait("1")),
        ("name: str", lambda: make.TrustGroup.follow(None)),
        ("packet 1: a buffer", lambda: sender.seal([b"x", 5])),
        ("packet: a buffer", lambda: sender.seal_one("text")),
        ("out: a buffer", lambda: sender.seal_into([b"x"], 5)),
        ("addresses: a pair", lambda: sender.seal([b"x"], addresses=("192.0.2.1",))),
        ("addresses: a pair", lambda: sender.seal([b"x"], addresses=5)),
        ("an address is text", lambda: sender.seal([b"x"], addresses=(1, 2))),
        ("payloads: Packets", lambda: sender.seal_in_place([b"x"])),
        ("payloads: Chains", lambda: sender.seal_chains([b"x"])),
        ("packets: Packets", lambda: receiver.open_in_place([b"x"])),
        ("packets: Packets", lambda: receiver.open_udp_in_place([b"x"], udp)),
        ("packets: Chains", lambda: receiver.open_chains([b"x"])),
        ("segments: Packets", lambda: make.Chains([b"x"], [1])),
        ("udp: Udp", lambda: sender.seal_udp([b"x"], None)),
        ("coffset: a number", lambda: sender.seal([b"x"], coffset=None)),
        ("next_header: a number", lambda: sender.seal([b"x"], next_header=1.5)),
        ("coffset: a number", lambda: sender.seal_one(b"x", coffset="1")),
        ("headroom or tailroom: ", lambda: sender.seal_in_place(eesp.Packets(bytearray(200), [99], [9]), headroom="x")),
        ("udp: Udp", lambda: receiver.open_udp([b"x"], None)),
        ("message 0: Message", lambda: Kdf(bytes(32)).seal([bytes(16)], ["x"])),  # type: ignore[list-item]
    ]
    for text, call in cases:
        with pytest.raises(TypeError) as error:
            call()
        assert text in str(error.value), f"{error.value} instead of {text}"


def test_numbers_of_other_types(group: eesp.TrustGroup) -> None:
    """NumPy's integers are no int."""

    class Two:
        def __index__(self) -> int:
            return 2

    two: Any = Two()
    sender, receiver = eesp.Sender(group, id=0xA2), eesp.Receiver(group)
    assert list(receiver.open(sender.seal([bytes(20)] * 2, coffset=two, ioffset=[two, 0])).coffsets) == [2, 2]
    assert receiver.open_one(sender.seal_one(bytes(20), coffset=two)).coffset == 2


def test_kernels_have_no_such_key() -> None:
    """With a Kdf, a key other than 0 would look like a wrong tag."""
    message = Message(nonce=bytes(12), data=bytes(16), key=1)
    kdf, keys = Kdf(bytes(32)), KeySet([bytes(16)])
    calls: list[Callable[[], object]] = [
        lambda: kdf.seal([bytes(16)], [message]),
        lambda: kdf.open([bytes(16)], [message]),
        lambda: keys.seal([message]),
        lambda: keys.open([message]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="message 0: there is no key 1"):
            call()


def test_output_that_cannot_be_written() -> None:
    command = f"exec {sys.executable} -m eesp backends"
    closed = subprocess.run(["sh", "-c", command + " >&-"], stderr=subprocess.PIPE, text=True)
    assert (closed.returncode, closed.stderr) == (1, "eesp: standard output is closed\n")
    full = subprocess.run(["sh", "-c", command + " >/dev/full"], stderr=subprocess.PIPE, text=True)
    assert (full.returncode, full.stderr) == (1, "eesp: standard output: No space left on device\n")
