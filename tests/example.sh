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
EESP_UDP_PORT=$(sed -n 's/^#define EESP_UDP_PORT \([0-9]*\).*/\1/p' "$(dirname "$captures")/../include/eesp.h")
export EESP_UDP_PORT
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
# transported ORIGINAL SEALED OPENED PROFILE: the same for transport mode.
transported() { /usr/bin/python3 pcap.py transported "$@"; }
# make_capture FORM OUT: the input's first packets in another form.
make_capture() { /usr/bin/python3 pcap.py "$1" "$input" "$2"; }
cat >pcap.py <<'PY'
import json
import os
import struct
import subprocess
import sys

def read(path, limit=65535):
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
    'stateless': (17, int(os.environ['EESP_UDP_PORT']), 8, 56, 16, lambda h: h[10] - 1),
    'psp': (17, 1000, 8, 16, 16, lambda h: h[4] >> 7),
    'tss': (253, None, 4, 16, 16, lambda h: h[0] & 1),
    'eesp': (17, int(os.environ['EESP_UDP_PORT']), 8, 16, None, lambda h: h[7] - 1),
}

def compare(original, sealed, opened, profile):
    proto, port, between, header, behind, key_of = FORMATS[profile]
    originals, outer = read(original, 65535 - 40 - 8 - 128 - 19), read(sealed)
    assert read(opened) == originals, 'opened packets differ'
    assert len(outer) == len(originals), 'number of sealed packets'
    keys, counters, runs = [], [], 0
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
        if profile == 'tss':  # under each key they begin at 0
            runs += len(keys) > 1 and keys[-1] != keys[-2]
        counters.append((h[2:8] if profile == 'eesp' else runs, h[{'stateless': 48}.get(profile, 8):][:8]))
    last = {}
    for flow, counter in counters:
        assert last.get(flow, b'') < counter, 'counters do not grow'
        last[flow] = counter
    changes = sum(a != b for a, b in zip(keys, keys[1:]))
    assert len(keys) < 12 and changes == 0 or changes == 2, 'rotations'

def transported(original, sealed, opened, profile):
    _, port, _, header, _, _ = FORMATS[profile]
    fits = []
    for when, ip in read(original):
        if ip[0] >> 4 == 4 and not int.from_bytes(ip[6:8], 'big') & 0x3fff:
            ip = ip[:10] + bytes(2) + ip[12:]
            size = 4 * (ip[0] & 15)
            fits.append((when, ip[:10] + struct.pack('>H', ~checksum(ip[:size]) & 0xffff) + ip[12:], size, ip[9], slice(12, 20)))
        elif ip[0] >> 4 == 6 and ip[6] not in (0, 43, 44, 51, 60, 135, 139, 140):
            fits.append((when, ip, 40, ip[6], slice(8, 40)))
    outer = read(sealed)
    assert read(opened) == [(when, ip) for when, ip, *_ in fits], 'opened packets differ'
    assert 100 < len(outer) == len(fits), 'number of sealed packets'
    for (when, ip, size, inner, ends), (sent, packet) in zip(fits, outer):
        assert when == sent and packet[ends] == ip[ends], 'addresses'
        assert packet[9 if packet[0] >> 4 == 4 else 6] == 17 and packet[size + 2:size + 4] == struct.pack('>H', port)
        assert packet[0] >> 4 == 6 or checksum(packet[:size]) == 0xffff, 'IPv4 header checksum'
        h = packet[size + 8:]
        assert profile != 'psp' or h[0] == inner, 'protocol'  # eesp encrypts it
        assert len(h) >= header + len(ip) - size + 16 and ip[size:] not in packet, 'clear text'

def make(form, source, path):
    ether4, ether6 = b'\2' * 12 + b'\x08\x00', b'\2' * 12 + b'\x86\xdd'
    with open(path, 'wb') as out:
        out.write(struct.pack('<IHH4I', 0xa1b2c3d4, 2, 4, 0, 0, 262144, 1 if form == 'odd' else 101))
        for when, ip in read(source)[:1 if form == 'tiny' else 100]:
            frame = ip
            if form == 'odd':
                frame = (ether4 if ip[0] >> 4 == 4 else ether6) + ip + b'trailer'
            sec, ns = divmod(when, 10**9)
            out.write(struct.pack('<4I', sec, ns // 1000, len(frame), len(frame)) + frame)
        if form == 'odd':
            v4, v6 = lambda n: struct.pack('>HH', 0x4500, n), lambda n: struct.pack('>IH', 6 << 28, n)
            for frame in (b'', ether4[:13], ether4,                                    # no IP
                          ether4 + v4(60) + bytes(55), ether6 + v6(9) + bytes(42),     # cut
                          ether4 + v4(65341) + bytes(65337),                               # too long
                          ether4 + v4(65340) + bytes(65336), ether6 + v6(65300) + bytes(65334)):  # the longest
                out.write(struct.pack('<4I', 0, 0, len(frame), len(frame)) + frame)

def forms(directory, listed, *tool):
    """Each of forms.py's captures: what the tool says of it, and what it has read."""
    for line in open(listed):
        form = json.loads(line)
        name, path = form['name'], os.path.join(directory, form['name'])
        out = 'form-' + name
        os.mkdir(out)
        ran = subprocess.run([*tool, path, out], capture_output=True, text=True)
        said = f'{name}: {ran}'
        packets, fault = form['packets'], form.get('fault')
        errors = [fault] if fault else [form['refused']] if 'refused' in form else []
        assert ran.returncode == (1 if errors else 0), said
        assert all(text in ran.stderr for text in errors) and bool(ran.stderr) == bool(errors), said
        if 'refused' in form:
            assert not os.listdir(out), said
            continue
        last = f', {form["malformed"]} malformed' if form['malformed'] else ''
        last += '; time stamps out of range were clamped' if form['clamped'] else ''
        size = sum(len(packet) // 2 for _, packet in packets)
        assert (f': {len(packets)} packets, {size} octets; left out: {form["not_ip"]} frames without IP, '
                f'{form["cut"]} cut or too long{last}\n') in ran.stdout, said
        top = (1 << 32) * 10**9 - 10**9  # the last second of a pcap file
        want = [(min(when, top + when % 10**9), bytes.fromhex(packet)) for when, packet in packets]
        assert read(out + '/opened.pcap') == want, said

if sys.argv[1] in ('compare', 'transported', 'forms'):
    globals()[sys.argv[1]](*sys.argv[2:])
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
	(($(grep -cE "192\.0\.2\.1\.[0-9]+ > 192\.0\.2\.2\.$EESP_UDP_PORT: " dump) == 3275)) || fail "tcpdump sees another number of packets"
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

for form in raw tiny odd; do
	make_capture "$form" "$form.pcap"
	succeeds "$form" "$form.pcap" --burst 1
done
grep -q "odd.pcap: 102 packets, .* left out: 3 frames without IP, 3 cut or too long$" odd/out || fail "odd: $(cat odd/out)"
# All forms of captures, also damaged ones: an emulator tells nothing new of them, and is slow.
if ((${#runner[@]} == 0)); then
	/usr/bin/python3 "$captures/forms.py" forms >forms.json
	/usr/bin/python3 pcap.py forms forms forms.json "${tunnel[@]}" || fail "a form of captures"
	checks=$((checks + $(wc -l <forms.json)))
fi
# Written as pcapng, and read again.
mkdir pcapng pcapng2
"${tunnel[@]}" --pcapng "$input" pcapng >/dev/null
"${tunnel[@]}" pcapng/opened.pcapng pcapng2 >/dev/null
cmp default/opened.pcap pcapng2/opened.pcap || fail "pcapng/opened.pcapng has other packets"
if command -v tcpdump >/dev/null; then
	for name in sealed opened; do
		"${tunnel[@]}" "pcapng/$name.pcapng" pcapng2 >/dev/null
		diff <(tcpdump -ttnn -r "pcapng/$name.pcapng" 2>/dev/null) <(tcpdump -ttnn -r pcapng2/opened.pcap 2>/dev/null) >dump ||
			fail "tcpdump reads something else in $name.pcapng: $(head -n 3 dump)"
	done
fi
ok
for profile in psp eesp; do
	mkdir "transport-$profile"
	"${tunnel[@]}" --profile "$profile" --transport "$input" "transport-$profile" >"transport-$profile/out"
	transported "$input" "transport-$profile/sealed.pcap" "transport-$profile/opened.pcap" "$profile" || fail "transport mode, $profile"
	grep -q "transport mode$" "transport-$profile/out" || fail "profile line: $(cat "transport-$profile/out")"
	ok
done
unset profile
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
for name in stateless tss; do
	fails 2 "--transport goes with --profile psp or eesp" --profile "$name" --transport "$input" default
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
fails 1 "not-a-pcap.bin: neither a pcap nor a pcapng file" "$captures/not-a-pcap.bin" none
fails 1 "/dev/null: neither a pcap nor a pcapng file" /dev/null none
[[ -z $(ls none) ]] || fail "output was made of bad input: $(ls none)"
# What is in front of the damage is sealed: here nothing.
mkdir -p cut
for octets in 39 40; do
	head -c "$octets" "$input" >cut.pcap
	fails 1 "cut.pcap: cut short in frame 1, where reading ends" cut.pcap cut
done
mkdir -p truncated
status=0
"${tunnel[@]}" "$captures/truncated.pcap" truncated >out 2>err || status=$?
((status == 1)) || fail "truncated.pcap: status $status"
grep -qx "pcap_tunnel: .*truncated.pcap: cut short in frame 21, where reading ends" err || fail "truncated.pcap: $(cat err)"
grep -q '^compared  *18 packets' out || fail "truncated.pcap: $(cat out)"
ok

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
