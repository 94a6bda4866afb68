#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checks captures of the network between gateways, without the project's code.

Every frame is UDP with a Security Header; the marker is nowhere; what is behind the
headers does not look like IP packets; and no ID uses a counter of an epoch twice.
"""
import argparse
import pathlib
import re
import struct
import sys

HEADER = pathlib.Path(__file__).parents[2] / "include/eesp.h"
PORT = int(re.search(r"#define EESP_UDP_PORT (\d+)", HEADER.read_text())[1])


class Wrong(Exception):
    pass


def frames(data):
    """The frames of a capture, as far as they were kept."""
    if len(data) < 24 or struct.unpack_from('<I', data)[0] not in (0xa1b2c3d4, 0xa1b23c4d):
        raise Wrong('not a pcap file of this byte order')
    if struct.unpack_from('<I', data, 20)[0] & 0xffff != 1:
        raise Wrong('not a capture of Ethernet')
    at = 24
    while at + 16 <= len(data):
        kept = struct.unpack_from('<I', data, at + 8)[0]
        at += 16
        if at + kept > len(data):
            break  # tcpdump was stopped while it wrote
        yield data[at:at + kept]
        at += kept


def options(octets):
    """{type: (index, root key ID)} of Master Key Options."""
    found, at = {}, 0
    while at < len(octets):
        kind = octets[at]
        if kind == 0:
            at += 1
            continue
        if at + 2 > len(octets) or at + 2 + octets[at + 1] > len(octets):
            raise Wrong('option beyond the header')
        body = octets[at + 2:at + 2 + octets[at + 1]]
        if kind == 1:
            if any(body):
                raise Wrong('padding is not zero')
        elif kind in (0xe0, 0xe1, 0xe2) and kind not in found:
            index, padding = body[:2]
            found[kind] = index, body[2:len(body) - padding]
        else:
            raise Wrong(f'option type {kind:#x}')
        at += 2 + len(body)
    return found


def security_header(frame):
    """(ID, epoch and counter, options, first octet behind) of a frame."""
    if frame[12:14] != b'\x08\x00' or frame[14] != 0x45 or frame[23] != 17:
        raise Wrong('not IPv4 with UDP')
    if struct.unpack_from('>HH', frame, 34) != (PORT, PORT):
        raise Wrong('other UDP ports')
    first, length = frame[42:46], 8 * ((frame[42] & 15) + 1)
    if first[0] >> 4 != 0 or first[1] & 7 > 2 or (first[1] >> 4) not in (0, 1, 2, 8, 9, 10):
        raise Wrong('Version or V')
    if ((first[1] << 16 | first[2] << 8 | first[3]) & 0xfffff) != 0:
        raise Wrong('Reserve or an offset is not zero')
    header = frame[42:42 + length]
    if len(header) != length or len(frame) == 42 + length:
        raise Wrong('shorter than its header')
    id_len = 8 if first[1] & 0x80 else 4
    return (int.from_bytes(header[4:4 + id_len], 'big'), int.from_bytes(header[-8:], 'big'),
            options(header[4 + id_len:-8]), frame[42 + length])


def check(args):
    used, indices, key_ids, count, like_ip = set(), set(), set(), 0, 0
    for path in args.captures:
        data = open(path, 'rb').read()
        for marker in args.marker:
            if marker.encode() in data:
                raise Wrong(f'{path}: "{marker}" in clear')
        for number, frame in enumerate(frames(data), 1):
            try:
                ident, tsc, opts, first = security_header(frame)
            except (Wrong, IndexError, struct.error, ValueError) as e:
                raise Wrong(f'{path}: frame {number}: {e}') from None
            if (ident, tsc) in used:
                raise Wrong(f'{path}: frame {number}: ID {ident:#x}, epoch {tsc >> 48}, '
                            f'counter {tsc & (1 << 48) - 1} a second time')
            used.add((ident, tsc))
            for index, key_id in opts.values():
                indices.add(index)
                key_ids.add(key_id.decode('latin-1'))
            count += 1
            like_ip += first == 0x45
    if count < args.min_frames:
        raise Wrong(f'only {count} frames')
    if count >= 1000 and like_ip > count // 50:
        raise Wrong(f'{like_ip} of {count} look like IP packets')
    ids = {ident for ident, _ in used}
    for name, want, got in (('IDs', args.ids, ids), ('indices', args.indices, indices)):
        if want and {int(x, 0) for x in want.split(',')} != got:
            raise Wrong(f'{name} {sorted(got)} instead of {want}')
    if args.key_id and key_ids != {args.key_id}:
        raise Wrong(f'root keys {sorted(key_ids)}')
    print(f'{count} frames, IDs {" ".join(f"{i:#x}" for i in sorted(ids))}, root key indices '
          f'{" ".join(str(i) for i in sorted(indices))}')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--marker', action='append', default=[], help='text that must not be there')
    parser.add_argument('--min-frames', type=int, default=1)
    parser.add_argument('--ids', help='comma-separated: exactly these send')
    parser.add_argument('--indices', help='comma-separated: exactly these root key indices are used')
    parser.add_argument('--key-id', help='the one root key ID')
    parser.add_argument('captures', nargs='+')
    args = parser.parse_args()
    try:
        check(args)
    except Wrong as e:
        sys.exit(str(e))


if __name__ == '__main__':
    main()
