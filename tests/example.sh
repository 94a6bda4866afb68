#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Runs the C examples, well and wrongly. Usage: tests/example.sh BIN_DIR WORK_DIR
# EESP_RUNNER: the emulator's command, for programs of another architecture.
set -euo pipefail
export LC_ALL=C

(($# == 2)) || { echo "usage: tests/example.sh BIN_DIR WORK_DIR" >&2; exit 2; }
captures=$(cd "$(dirname "$0")/../testdata/captures" && pwd)
bin=$(cd "$1" && pwd)
rm -rf "$2"
mkdir -p "$2"
cd "$2"
read -ra runner <<<"${EESP_RUNNER:-}"
tunnel=("${runner[@]}" "$bin/pcap_tunnel")
input=$captures/mixed.pcap
checks=0

fail() { echo "example.sh: $*" >&2; exit 1; }
ok() { checks=$((checks + 1)); }

# succeeds DIR INPUT OPTION...: a round trip, with what it prints in DIR/out.
succeeds() {
	local dir=$1 in=$2
	shift 2
	mkdir -p "$dir"
	"${tunnel[@]}" "$@" "$in" "$dir" >"$dir/out" 2>"$dir/err" || fail "$dir: status $?: $(cat "$dir/err")"
	[[ ! -s $dir/err ]] || fail "$dir: succeeded, but said: $(cat "$dir/err")"
	compare "$in" "$dir/sealed.pcap" "$dir/opened.pcap" "${profile:-stateless}" || fail "$dir: wrong captures"
	ok
}

# fails STATUS TEXT ARGUMENT...: the status, and one line on stderr that has
# TEXT in it; with status 2 the usage comes behind that line.
fails() {
	local want=$1 text=$2 got=0 line
	shift 2
	"${tunnel[@]}" "$@" >out 2>err || got=$?
	line=$(grep '^pcap_tunnel: ' err | tail -n 1) || true
	((got == want)) || fail "$*: status $got instead of $want: $(cat err)"
	[[ $line == *"$text"* ]] || fail "$*: '$line' instead of '$text'"
	if ((want == 1)); then
		(($(wc -l <err) == 1)) || fail "$*: more than one line: $(cat err)"
	else
		[[ $(tail -n 1 err) == "usage: pcap_tunnel "* ]] || fail "$*: no usage: $(cat err)"
	fi
	ok
}

# compare ORIGINAL SEALED OPENED: reads all three without the example's code.
# Opened packets are the original ones, at their times; sealed ones have right
# lengths and checksums, and room for a header and an ICV.
compare() { /usr/bin/python3 pcap.py compare "$@"; }
# make_capture FORM OUT: the input's first packets in another form.
make_capture() { /usr/bin/python3 pcap.py "$1" "$input" "$2"; }
cat >pcap.py <<'PY'
import struct
import sys

def read(path, limit=65535 + 40):
    """(time in nanoseconds, IP packet) of each frame that has a whole one."""
    data = open(path, 'rb').read()
    order = '<' if data[0] in (0xd4, 0x4d) else '>'
    magic, link = struct.unpack(order + 'I16xI', data[:24])
    unit = {0xa1b2c3d4: 1000, 0xa1b23c4d: 1}[magic]
    skip, type_at = {1: (14, 12), 101: (0, None), 113: (16, 14), 276: (20, 0)}[link]
    at, packets = 24, []
    while at < len(data):
        sec, frac, size, _ = struct.unpack(order + '4I', data[at:at + 16])
        frame = data[at + 16:at + 16 + size]
        at += 16 + size
        kind = type_at is not None and frame[type_at:type_at + 2]
        if kind == b'\x81\x00':  # one VLAN tag
            kind, frame = frame[16:18], frame[4:]
        if kind in (False, b'\x08\x00', b'\x86\xdd'):
            ip = frame[skip:]
            length = int.from_bytes(ip[2:4], 'big') if ip[:1] < b'\x60' else 40 + int.from_bytes(ip[4:6], 'big')
            if 20 <= length <= min(len(ip), limit):
                packets.append((sec * 10**9 + frac * unit, ip[:length]))
    return packets

def checksum(data):
    s = sum(struct.unpack('>%dH' % (len(data) // 2 + len(data) % 2), data + bytes(len(data) % 2)))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return s

# By profile: outer protocol and port, octets in front of its payload, of the
# header, and behind it, and which of the three keys a header is of.
FORMATS = {
    'stateless': (17, 4500, 8, 56, 16, lambda h: h[10] - 1),
    'psp': (17, 1000, 8, 16, 16, lambda h: h[4] >> 7),
    'tss': (253, None, 4, 16, 16, lambda h: h[0] & 1),
    'eesp': (17, 4500, 8, 20, None, lambda h: h[7] - 1),
}

def compare(original, sealed, opened, profile):
    proto, port, between, header, behind, key_of = FORMATS[profile]
    originals, outer = read(original, 65535 - 20 - 8 - 128 - 19), read(sealed)
    assert read(opened) == originals, 'opened packets differ'
    assert len(outer) == len(originals), 'number of sealed packets'
    keys, counters = [], []
    for (when, inner), (sent, packet) in zip(originals, outer):
        assert when == sent and packet[0] == 0x45 and packet[9] == proto
        assert checksum(packet[:20]) == 0xffff, 'IPv4 header checksum'
        assert packet[12:20] == bytes([192, 0, 2, 1, 192, 0, 2, 2])
        if port:
            source, target, size, no_sum = struct.unpack('>4H', packet[20:28])
            assert source >= 0xc000 and target == port and size == len(packet) - 20 and no_sum == 0, 'UDP'
        h = packet[20 + between:]
        tail = 16 + -len(inner) % 4 if behind is None else behind
        assert len(h) == header + len(inner) + tail, 'length'
        first = {
            # word, DeviceID, options of zone and user (4 + 16 each), epoch and counter
            'stateless': bytes([0x06, 0x10, 0, 0, 1, 2, 3, 4]),
            # next header, length, version
            'psp': bytes([4 if inner[0] < 0x60 else 41, 1, 0]),
            'tss': bytes([0x0c | h[0] & 1, 0, 0x05, 0xd1, 1, 2, 3, 4]),
            'eesp': bytes([0x80, 0, 0, h[3], 0, 0, 0x10]),
        }[profile]
        assert h.startswith(first), h[:16].hex()
        keys.append(key_of(h))
        counters.append((h[2:8] if profile == 'eesp' else b'', h[{'stateless': 48}.get(profile, 8):][:8]))
    last = {}
    for flow, counter in counters:
        assert last.get(flow, b'') < counter, 'counters do not grow'
        last[flow] = counter
    changes = sum(a != b for a, b in zip(keys, keys[1:]))
    assert len(keys) < 12 and changes == 0 or changes == 2, 'rotations'

def make(form, source, path):
    order, magic, unit, link, prefix = {
        'big-endian': ('>', 0xa1b2c3d4, 1000, 1, b'\2' * 12),
        'nanoseconds': ('<', 0xa1b23c4d, 1, 1, b'\2' * 12),
        'big-endian-nanoseconds': ('>', 0xa1b23c4d, 1, 101, None),
        'raw': ('<', 0xa1b2c3d4, 1000, 101, None),
        'cooked': ('<', 0xa1b2c3d4, 1000, 113, b'\0' * 14),
        'cooked2': ('<', 0xa1b2c3d4, 1000, 276, b''),
        'vlan': ('<', 0xa1b2c3d4, 1000, 1, b'\2' * 12 + b'\x81\x00\x00\x05'),
        'tiny': ('<', 0xa1b2c3d4, 1000, 101, None),
        'odd': ('<', 0xa1b2c3d4, 1000, 1, b'\2' * 12),
        'padded': ('<', 0xa1b2c3d4, 1000, 1, b'\2' * 12),
    }[form]
    with open(path, 'wb') as out:
        out.write(struct.pack(order + 'IHH4I', magic, 2, 4, 0, 0, 262144, link))
        for when, ip in read(source)[:1 if form == 'tiny' else 100]:
            frame = ip
            if prefix is not None:
                frame = prefix + (b'\x08\x00' if ip[0] >> 4 == 4 else b'\x86\xdd')
                frame += bytes(18 if form == 'cooked2' else 0) + ip
            if form == 'padded':
                frame += b'trailer'
            sec, ns = divmod(when, 10**9)
            out.write(struct.pack(order + '4I', sec, ns // unit, len(frame), len(frame)) + frame)
        if form == 'odd':
            ether4, ether6 = prefix + b'\x08\x00', prefix + b'\x86\xdd'
            v4, v6 = lambda n: struct.pack('>HH', 0x4500, n), lambda n: struct.pack('>IH', 6 << 28, n)
            for frame in (b'', ether4[:13], ether4,                                    # no IP
                          ether4 + v4(60) + bytes(55), ether6 + v6(9) + bytes(42),     # cut
                          ether4 + v4(65361) + bytes(65357), ether4 + v4(19) + bytes(60), ether4 + bytes(60),
                          ether4 + v4(65360) + bytes(65356), ether6 + v6(65320) + bytes(65354)):  # the longest
                out.write(struct.pack(order + '4I', 0, 0, len(frame), len(frame)) + frame)

if sys.argv[1] == 'compare':
    compare(*sys.argv[2:])
else:
    make(*sys.argv[1:])
PY

# ---- The README's program

[[ $("${runner[@]}" "$bin/minimal") == "sealed 32 octets into 88, opened: thirty-two octets to be sealed.." ]] || fail "minimal"
ok

# ---- Round trips

succeeds default "$input"
grep -qx "input  *$input: 3275 packets, 2690995 octets; left out: 2 frames without IP, 0 cut or too long" default/out ||
	fail "input line: $(cat default/out)"
grep -q "^compared  *3275 packets, all equal" default/out || fail "compared line: $(cat default/out)"
grep -q "^rotations  2; packets in flight: 545 opened with the next key, 545 with the previous one$" default/out ||
	fail "rotations line: $(cat default/out)"
grep -q "^written  *default/sealed.pcap: $(stat -c %s default/sealed.pcap) octets" default/out || fail "written line"

secret='The quick brown fox jumps over the lazy dog.'
for clear in "$input" default/opened.pcap; do
	grep -qaF "$secret" "$clear" || fail "$clear: lacks the known text"
done
! grep -qaF "$secret" default/sealed.pcap || fail "clear text in sealed.pcap"

if command -v tcpdump >/dev/null; then
	tcpdump -nvv -r default/sealed.pcap >dump 2>dump.err || fail "tcpdump: $(cat dump.err)"
	(($(grep -cE '192\.0\.2\.1\.[0-9]+ > 192\.0\.2\.2\.4500: ' dump) == 3275)) || fail "tcpdump sees another number of packets"
	! grep -E 'bad|wrong|truncated|\[\|' dump || fail "tcpdump finds faults"
	ok
fi

# Another backend, key size and bursts of other sizes: the same packets.
EESP_BACKEND=generic succeeds generic "$input"
grep -q "^backend  *generic, AES-128-GCM$" generic/out || fail "backend line: $(cat generic/out)"
succeeds aes256 "$input" --aead 256 --burst 256
grep -q "^backend .*, AES-256-GCM$" aes256/out || fail "backend line: $(cat aes256/out)"
same() { sed -nE 's/, [0-9]+ packets\/s$//; /^(input|sealed|opened|rotations|compared) /p' "$1/out"; }
diff <(same default) <(same generic) || fail "backends differ in what they say"
for dir in generic aes256; do
	cmp "default/opened.pcap" "$dir/opened.pcap" || fail "$dir/opened.pcap differs"
done

# The other profiles; in psp the sender gets its key when the receiver has it.
for profile in psp tss eesp; do
	succeeds "$profile" "$input" --profile "$profile"
	grep -q "^profile  *$profile: " "$profile/out" || fail "profile line: $(cat "$profile/out")"
	cmp default/opened.pcap "$profile/opened.pcap" || fail "$profile/opened.pcap differs"
	! grep -qaF "$secret" "$profile/sealed.pcap" || fail "clear text in $profile/sealed.pcap"
	flight="545 opened with the next key, 545 with the previous one"
	[[ $profile != psp ]] || flight="0 opened with the next key, 1090 with the previous one"
	grep -q "^rotations  2; packets in flight: $flight$" "$profile/out" || fail "rotations line: $(cat "$profile/out")"
	EESP_BACKEND=generic succeeds "$profile-generic" "$input" --profile "$profile" --burst 7
	succeeds "$profile-256" "$input" --profile "$profile" --aead 256 --burst 256
	if command -v tcpdump >/dev/null; then
		tcpdump -nvv -r "$profile/sealed.pcap" >dump 2>dump.err || fail "tcpdump: $(cat dump.err)"
		! grep -E 'bad|wrong|truncated|\[\|' dump || fail "tcpdump finds faults in $profile"
	fi
done
unset profile

for form in big-endian nanoseconds big-endian-nanoseconds raw cooked cooked2 vlan padded tiny; do
	make_capture "$form" "$form.pcap"
	succeeds "$form" "$form.pcap" --burst 1
done
make_capture odd odd.pcap
succeeds odd odd.pcap
grep -q "odd.pcap: 102 packets, .* left out: 3 frames without IP, 5 cut or too long$" odd/out || fail "odd: $(cat odd/out)"
succeeds again default/sealed.pcap # a tunnel in a tunnel

# ---- Wrong arguments

"${tunnel[@]}" --help >out
[[ $(head -n 1 out) == "usage: pcap_tunnel "* ]] || fail "--help: $(cat out)"
diff out <("${tunnel[@]}" -h) || fail "-h differs from --help"
fails 2 "needed"
fails 2 "needed" "$input"
fails 2 "needed" "$input" default more
fails 2 "wrong option" --no-such-option "$input" default
fails 2 "wrong option" "$input" default --burst
for n in 0 257 -1 x 3x '' 99999999999999999999; do
	fails 2 "--burst takes" --burst "$n" "$input" default
done
for n in 192 1 128x ''; do
	fails 2 "--aead takes" --aead "$n" "$input" default
done
for name in esp '' PSP stateless2; do
	fails 2 "--profile takes" --profile "$name" "$input" default
done
fails 2 "--profile tss goes with --aead 256" --profile tss --aead 128 "$input" default
EESP_BACKEND=no-such-backend fails 1 "no-such-backend" "$input" default

# ---- Inputs that are not right; nothing is written

mkdir -p none
fails 1 "no-such-file: No such file or directory" no-such-file none
fails 1 "default: Is a directory" default none
fails 1 "not-a-pcap.bin: not a pcap file" "$captures/not-a-pcap.bin" none
fails 1 "truncated.pcap: cut short in frame 21" "$captures/truncated.pcap" none
fails 1 "/dev/null: not a pcap file" /dev/null none
head -c 23 "$input" >short-header.pcap
fails 1 "short-header.pcap: not a pcap file" short-header.pcap none
head -c 24 "$input" >empty.pcap
fails 1 "empty.pcap: no IP packet" empty.pcap none
head -c 39 "$input" >short-frame-header.pcap
fails 1 "short-frame-header.pcap: cut short in frame 1" short-frame-header.pcap none
head -c 40 "$input" >no-frame.pcap
fails 1 "no-frame.pcap: cut short in frame 1" no-frame.pcap none
{ head -c 24 "$input"; printf '\0\0\0\0\0\0\0\0\377\377\377\377\377\377\377\377'; } >damaged.pcap
fails 1 "damaged.pcap: damaged: frame 1" damaged.pcap none
{ printf '\n\r\r\n'; head -c 40 "$input"; } >ng.pcap
fails 1 "ng.pcap: a pcapng file" ng.pcap none
{ head -c 20 "$input"; printf '\223\0\0\0'; } >link.pcap
fails 1 "link.pcap: link type 147" link.pcap none
[[ -z $(ls none) ]] || fail "output was made of bad input: $(ls none)"

# ---- Outputs that cannot be written

fails 1 "no-such-dir/sealed.pcap: No such file or directory" "$input" no-such-dir
fails 1 "raw.pcap/sealed.pcap: Not a directory" "$input" raw.pcap
mkdir -p occupied/opened.pcap
fails 1 "occupied/opened.pcap: Is a directory" "$input" occupied
if ((EUID != 0)); then
	mkdir -m 555 locked
	fails 1 "locked/sealed.pcap: Permission denied" "$input" locked
fi
for name in sealed opened; do
	mkdir -p "full-$name"
	ln -s /dev/full "full-$name/$name.pcap"
	fails 1 "full-$name/$name.pcap: No space left on device" "$input" "full-$name"
	fails 1 "full-$name/$name.pcap: No space left on device" tiny.pcap "full-$name"
done
cp default/sealed.pcap default/kept
fails 1 "default/sealed.pcap: this is the input" default/sealed.pcap default
cmp default/sealed.pcap default/kept || fail "the input was overwritten"
status=0
"${tunnel[@]}" raw.pcap raw >/dev/full 2>err || status=$?
((status == 1)) || fail "full standard output: status $status"
grep -qx "pcap_tunnel: standard output: No space left on device" err || fail "full standard output: $(cat err)"
ok

echo "examples: $checks checks"
