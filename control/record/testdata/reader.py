#!/usr/bin/env python3
"""Reads the vectors of the control plane's records, and shares nothing with what wrote them.

Checks the encoding, the delegation's signature by the root, the signatures and the chain of the log, the
roster's digest, the steps of the KEK, and each ring: signature, fingerprints, sealed values.
Standard library, and python3-cryptography for Ed25519 and AES-GCM.
"""
import hashlib
import hmac
import json
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DELEGATION, HEAD, RING, ESCROW, GRANT, MEMBER = range(1, 7)
SIGNED = {DELEGATION, HEAD, RING, ESCROW, GRANT, MEMBER, 8, 10, 32}
SEALED = 0xF000
SIG = 73


def expand(prk, info, length):
    out, block, i = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out, i = out + block, i + 1
    return out[:length]


def hkdf(key, salt, info, length):
    return expand(hmac.new(salt or bytes(32), key, hashlib.sha256).digest(), info, length)


def fields(b):
    out, last = {}, -1
    while b:
        num, n = struct.unpack(">HH", b[:4])
        assert num & 0x7FFF > last, "fields out of order"
        assert len(b) >= 4 + n, "truncated field"
        last = num & 0x7FFF
        out[last] = b[4 : 4 + n]
        b = b[4 + n :]
    return out


def entries(b):
    while b:
        (n,) = struct.unpack(">H", b[:2])
        assert len(b) >= 2 + n, "truncated entry"
        yield fields(b[2 : 2 + n])
        b = b[2 + n :]


def num(b):
    return int.from_bytes(b, "big")


class Record:
    def __init__(self, data):
        self.data = data
        magic, self.type, version, flags, length = struct.unpack(">4sBBHI", data[:12])
        assert magic == b"EESP" and version == 1 and flags == 0, "header"
        assert len(data) == 12 + length + (SIG if self.type in SIGNED else 0), "length"
        self.fields = fields(data[12 : 12 + length])
        self.body, self.sig = data[: 12 + length], data[12 + length :]
        self.hash = hashlib.sha256(data).digest()

    def verify(self, cluster, public):
        assert self.sig[0] == 1, "algorithm"
        assert self.sig[1:9] == hashlib.sha256(public).digest()[:8], "key ID"
        message = b"eesp control v1" + bytes([self.type]) + cluster + self.body
        Ed25519PublicKey.from_public_bytes(public).verify(self.sig[9:], message)


def main(path):
    with open(path) as f:
        v = json.load(f)
    cluster = bytes.fromhex(v["Cluster"])
    records = {name: Record(bytes.fromhex(r)) for name, r in v["Records"].items()}
    print(f"records: {len(records)} read, of {len({r.type for r in records.values()})} types")

    deleg = records["delegation"]
    deleg.verify(cluster, bytes.fromhex(v["RootPublic"]))
    instances = {e[1]: e[3] for e in entries(deleg.fields[4])}
    assert len(instances) == 1
    (instance,) = instances.values()
    for name, r in records.items():
        if name in ("ack", "hello"):
            r.verify(cluster, bytes.fromhex(v["MemberPublic"]))
        elif r.type in SIGNED and r.type != DELEGATION:
            r.verify(cluster, instance)
    print("signatures: root, instance and member")

    put, prev, last = {}, bytes(32), 0
    for data in v["Chain"]:
        h = Record(bytes.fromhex(data))
        assert h.type == HEAD
        h.verify(cluster, instances[h.fields[7]])
        assert h.fields[4] == prev, "predecessor's hash"
        assert num(h.fields[3]) == last + 1, "serial"
        prev, last = h.hash, last + 1
        for e in entries(h.fields[14]):
            put[num(e[1]), e[2]] = e[3]
            if num(e[1]) == MEMBER:
                digest = hashlib.sha256(e[3]).digest()
                assert h.fields[13] == digest, "roster's digest"
    assert put[DELEGATION, bytes(16)] == deleg.hash
    print(f"chain: {last} entries, head {prev.hex()[:16]}")

    ring_id = records["ring create"].fields[1]
    keks = [bytes.fromhex(v["KEK"])]
    for s, want in enumerate(v["KEKSteps"], 1):
        keks.append(expand(keks[-1], b"eesp kek step v1" + cluster + ring_id + struct.pack(">II", 1, s), 32))
        assert keks[-1].hex() == want, f"KEK of step {s}"
    for r in v["Rings"]:
        ring = Record(bytes.fromhex(r["Record"]))
        ring.verify(cluster, instance)
        sealed = ring.fields[SEALED & 0x7FFF]
        rest = b"".join(
            ring.body[i : i + n]
            for i, n in spans(ring.body)
            if num(ring.body[i : i + 2]) != SEALED
        )
        public = ring.body[:8] + struct.pack(">I", len(rest)) + rest
        kek = keks[num(ring.fields[9])]
        assert num(ring.fields[9]) == r["KEKStep"]
        key = hkdf(kek, sealed[:32], b"eesp ring v1" + hashlib.sha256(public).digest(), 32)
        plain = AESGCM(key).decrypt(bytes(12), sealed[32:], public)
        gens = list(entries(ring.fields[10]))
        values = [plain[i : i + 32] for i in range(0, len(plain), 32)]
        assert [x.hex() for x in values] == r["Values"] and len(values) == len(gens), "values"
        for g, x in zip(gens, values):
            f = hkdf(x, b"", b"eesp fingerprint v1" + ring.fields[1] + g[1], 16)
            assert f == g[3], "fingerprint"
    assert put[RING, ring_id] == ring.hash, "the newest ring is not the one that the log names"
    print(f"rings: {len(v['Rings'])} opened, fingerprints as in the records")


def spans(body):
    i = 12
    while i < len(body):
        n = 4 + num(body[i + 2 : i + 4])
        yield i, n
        i += n


if __name__ == "__main__":
    main(sys.argv[1])
