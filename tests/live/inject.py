#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Sends wrong packets on an interface, made of the last right one in a capture from an address.

usage: inject.py CAPTURE SOURCE_ADDRESS INTERFACE TO_MAC TO_ADDRESS[/FROM_ADDRESS] WHAT...
WHAT is FUNCTION*COUNT, a function of those below that wrong packets are made with.
"""
import random
import socket
import struct
import sys

from check_capture import frames

HEADER = 42  # where the Security Header begins
chance = random.Random(1)


def damaged(f):
    """Of a later counter, or the replay window would know it."""
    at = HEADER + 8 * ((f[HEADER] & 15) + 1) - 6
    counter = int.from_bytes(f[at:at + 6], 'big') + (1 << 30)
    return f[:at] + counter.to_bytes(6, 'big') + f[at + 6:-1] + bytes([f[-1] ^ 1])


def other_key(f):
    at = f.index(0xe0, HEADER + 8)
    return f[:at + 2] + bytes([f[at + 2] ^ 0x80]) + f[at + 3:]


def other_version(f):
    return f[:HEADER] + bytes([f[HEADER] | 0x10]) + f[HEADER + 1:]


def reserved(f):
    return f[:HEADER + 2] + bytes([f[HEADER + 2] | 0x10]) + f[HEADER + 3:]


def lengthen(f, octets):
    """The frame with this many octets of UDP payload."""
    f = f[:HEADER + octets]
    return f[:16] + struct.pack('>H', len(f) - 14) + f[18:38] + struct.pack('>H', len(f) - 34) + f[40:]


def short(f):
    return lengthen(f, 20)


def empty(f):
    return lengthen(f, 0)


def contradiction(f):
    return f[:38] + struct.pack('>H', 9999) + f[40:]


def mutated(f):
    """Some octets changed, and now and then another length."""
    f = bytearray(f)
    for _ in range(chance.randrange(5)):
        f[chance.randrange(12, min(len(f), 110))] = chance.randrange(256)
    if chance.randrange(2):
        del f[chance.randrange(14, len(f)):]
        f += bytes(chance.randrange(30))
    if chance.randrange(2):
        f[16:18] = struct.pack('>H', (len(f) - 14) % 65536)
        f[38:40] = struct.pack('>H', (len(f) - 34) % 65536)
    return bytes(f)


def unchanged(f):
    return f


def main():
    capture, source, interface, mac, address, *wrongs = sys.argv[1:]
    ends = [socket.inet_aton(a) for a in [*address.split('/'), source]]
    source = ends[-1]
    frame = [f for f in frames(open(capture, 'rb').read())
             if f[26:30] == source and len(f) == 14 + int.from_bytes(f[16:18], 'big')][-1]  # kept whole
    frame = bytes.fromhex(mac.replace(':', '')) + frame[6:26] + ends[1] + ends[0] + frame[34:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind((interface, 0))
        for wrong in wrongs:
            name, count = wrong.split('*')
            for _ in range(int(count)):
                s.send(globals()[name](frame))


if __name__ == '__main__':
    main()
