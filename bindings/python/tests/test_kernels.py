# SPDX-License-Identifier: BSD-3-Clause
"""Kernels without packets, against the cryptography package and known answers."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

import eesp
from eesp.kernels import Kdf, KeySet, Message

chance = random.Random(1)
octets = chance.randbytes


def cmac_key(key: bytes, context: bytes, aead: eesp.Aead) -> bytes:
    blocks = []
    for i in range(1, 3 if aead == eesp.Aead.AES_256_GCM else 2):
        mac = CMAC(AES(key))
        mac.update(bytes([i]) + context[1:])
        blocks.append(mac.finalize())
    return b"".join(blocks)


def reference(key: bytes, message: Message) -> bytes:
    nonce, data, aad, _ = message
    assert isinstance(nonce, bytes) and isinstance(data, bytes) and isinstance(aad, bytes)
    return AESGCM(key).encrypt(nonce, data, aad)


@pytest.mark.parametrize("aead", eesp.Aead)
def test_derives_and_seals_as_another_implementation(aead: eesp.Aead) -> None:
    key = octets(32)
    contexts = [octets(16) for _ in range(70)]
    messages = [Message(octets(12), octets(chance.randrange(300)), octets(chance.randrange(40))) for _ in contexts]
    with Kdf(key, aead) as kdf:
        keys = [cmac_key(key, c, aead) for c in contexts]
        with kdf.derive(contexts) as derived:
            assert [bytes(k) for k in derived] == keys
        sealed = kdf.seal(contexts, messages)
        assert sealed == [reference(k, m) for k, m in zip(keys, messages, strict=True)]
        again = [m._replace(data=s) for m, s in zip(messages, sealed, strict=True)]
        assert kdf.open(contexts, again) == [m.data for m in messages]
        again[3] = again[3]._replace(data=sealed[3][:-1] + bytes([sealed[3][-1] ^ 1]))
        opened = kdf.open(contexts, again)
        assert opened[3] is None
        assert [o for i, o in enumerate(opened) if i != 3] == [m.data for i, m in enumerate(messages) if i != 3]


@pytest.mark.parametrize("size", [16, 32])
def test_key_sets(size: int) -> None:
    keys = [octets(size) for _ in range(5)]
    messages = [Message(octets(12), octets(100 + i), b"aad", i % 5) for i in range(40)]
    with KeySet(keys) as made:
        assert len(made) == 5
        sealed = made.seal(messages)
        assert sealed == [reference(keys[m.key], m) for m in messages]
        assert made.open(m._replace(data=s) for m, s in zip(messages, sealed, strict=True)) == [m.data for m in messages]
        assert made.open([messages[0]._replace(data=sealed[1])]) == [None]
        assert made.seal([]) == [] and made.open([]) == []
        with pytest.raises(ValueError, match="there is no key 5"):
            made.seal([Message(octets(12), b"", key=5)])
    with pytest.raises(ValueError, match="closed"):
        made.seal([messages[0]])


def test_known_answer() -> None:
    """NIST's GCM test case 4, without its AAD's surroundings."""
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308")
    plain = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    aad, nonce = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), bytes.fromhex("cafebabefacedbaddecaf888")
    with KeySet([key]) as made:
        sealed = made.seal([Message(nonce, plain, aad)])[0]
    assert sealed.hex() == (
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
        "5bc94fbc3221a5db94fae95ae7121a47"
    )


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="32 octets, not 16"):
        Kdf(bytes(16))
    with pytest.raises(ValueError, match="one or more"):
        KeySet([])
    with pytest.raises(ValueError, match="all of 16"):
        KeySet([bytes(16), bytes(32)])
    with pytest.raises(ValueError, match="not for AES_256_GCM"):
        KeySet([bytes(16)], eesp.Aead.AES_256_GCM)
    with Kdf(octets(32)) as kdf:
        with pytest.raises(ValueError, match="context 0 has 15"):
            kdf.derive([bytes(15)])
        with pytest.raises(ValueError, match="2 messages, but 1 contexts"):
            kdf.seal([bytes(16)], [Message(bytes(12), b"")] * 2)
        with pytest.raises(ValueError, match="a nonce has 12 octets, not 11"):
            kdf.seal([bytes(16)], [Message(bytes(11), b"")])
        with pytest.raises(ValueError, match="shorter than its tag"):
            kdf.open([bytes(16)], [Message(bytes(12), bytes(15))])
