# SPDX-License-Identifier: BSD-3-Clause
"""Usage of keys."""

import pytest

import eesp


def test_usage_follows_its_key() -> None:
    group = eesp.TrustGroup()
    group.generate_root_key(eesp.Level.ZONE, bytes(16))
    sender, receiver = eesp.Sender(group, id=88001, counter=eesp.Explicit(0), options=True), eesp.Receiver(group, replay_window=64)
    packets = sender.seal([b"one", b"two", b"three"])
    assert len(receiver.open(packets)) == 3
    used = group.usage(eesp.Level.ZONE)
    assert (used.sealed, used.opened, used.index) == (3, 3, 1)
    assert 2 <= used.derived <= 6
    assert group.usage(eesp.Level.ZONE, eesp.Generation.NEXT) == eesp.Usage(0, 0, 0, 2)
    with pytest.raises(eesp.NotFoundError):
        group.usage(eesp.Level.ZONE, eesp.Generation.PREVIOUS)
    group.rotate(eesp.Level.ZONE, 3)
    assert group.usage(eesp.Level.ZONE, eesp.Generation.PREVIOUS) == used
    with group.derive_keys([eesp.Context(id=i) for i in range(5)]):
        assert group.usage(eesp.Level.ZONE) == eesp.Usage(5, 0, 0, 2)


def test_usage_of_a_slot() -> None:
    group = eesp.TrustGroup(profile=eesp.Profile.PSP)
    slot = group.rotate_key()
    with group.export_data_key(eesp.Context(id=group.alloc_spi())):
        assert group.usage(slot) == eesp.Usage(1, 0, 0, 0)
    with pytest.raises(eesp.NotFoundError):
        group.usage(1 - slot)
