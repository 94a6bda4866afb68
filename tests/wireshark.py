#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds wireshark/eesp.lua against the vectors, packet by packet: wireshark.py TSHARK WORKDIR

Every packet of testdata/vectors is put into a capture, and tshark reads it with the dissectors. Fields must be what the
vectors say, and a packet that is refused for its header must be noted with that status, and no other. What
docs/wireshark.md shows must be what tshark prints.
"""

import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TSHARK, WORK = sys.argv[1], Path(sys.argv[2])
Vector = dict[str, Any]
# Of each profile: its protocol, and which vectors' reasons a header tells without keys and groups.
PROFILES = {
    "stateless": ("eespse", {"short", "version", "v", "reserved", "header_len", "option", "offset"}),
    "psp": ("eesppsp", {"short", "version", "reserved", "header_len", "offset", "no_key"}),
    "tss": ("eesptss", {"short", "version", "reserved", "offset"}),
    "eesp": ("eespsa", {"short", "version", "reserved", "header_len", "option", "sequence"}),
}


def ports() -> dict[str, int]:
    """The ports of include/eesp.h."""
    text = (ROOT / "include/eesp.h").read_text()
    found = {name: int(number) for name, number in re.findall(r"#define (EESP_\w*UDP_PORT) (\d+)", text)}
    return {"psp": found["EESP_PSP_UDP_PORT"], "tss": found["EESP_TSS_UDP_PORT"]} | dict.fromkeys(
        ("stateless", "eesp"), found["EESP_UDP_PORT"]
    )


def capture(path: Path, packets: list[bytes], port: int) -> None:
    """A pcap of IPv4 packets with one UDP datagram each."""
    out = bytearray(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
    for packet in packets:
        udp = struct.pack(">HHHH", 50000, port, 8 + len(packet), 0) + packet
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), bytes(4)) + udp
        out += struct.pack("<IIII", 0, 0, len(ip), len(ip)) + ip
    path.write_bytes(out)


def read(path: Path, fields: list[str], preferences: list[str]) -> list[list[str]]:
    """What tshark reads of each packet; of a field that is there more than once, the first."""
    command = [TSHARK, "-X", f"lua_script:{ROOT}/wireshark/eesp.lua", "-r", str(path), "-T", "fields", "-E", "occurrence=a"]
    for preference in preferences:
        command += ["-o", preference]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wrong = [line for line in done.stderr.splitlines() if "root" not in line and line.strip()]
    if wrong:
        raise AssertionError("\n".join(wrong))
    return [line.split("\t") for line in done.stdout.splitlines()]


def known(profile: str, vector: Vector) -> dict[str, int]:
    """Fields that a packet must show, as numbers."""
    if profile == "stateless":
        return {
            "eespse.id": int(vector["id"], 16),
            "eespse.epoch": vector["epoch"],
            "eespse.counter": vector["counter"],
            "eespse.coffset": vector["coffset"],
            "eespse.ioffset": vector["ioffset"],
        }
    if profile == "psp":
        return {
            "eesppsp.spi": vector["spi"],
            "eesppsp.iv": vector["iv"],
            "eesppsp.version": vector["version"],
            "eesppsp.next_header": vector["next_header"],
        }
    if profile == "tss":
        shown = {"eesptss.sdi": vector["sdi"], "eesptss.epoch": vector["epoch"], "eesptss.counter": vector["counter"]}
        return shown | {"eesptss.an": vector["an"]} | ({"eesptss.ssi": vector["ssi"]} if vector["sp"] else {})
    shown = {"eespsa.spi": vector["spi"], "eespsa.session": vector["session"]}
    return shown | ({"eespsa.sequence": vector["sequence"]} if vector["seq"] else {"eespsa.iv": vector["sequence"]})


def preferences(profile: str, vector: Vector) -> tuple[str, ...]:
    """What packets of a vector do not say about themselves."""
    if profile == "tss":
        return (f"eesptss.crypt_offset:{vector['crypt_offset']}",)
    if profile == "eesp":
        tunnel = vector["encap"] == 1 and not vector["max_coffset"] if vector["draft"] == 3 else not vector["full"]
        said = {"sequence": vector["seq"], "iv": vector["iv"], "optimized": tunnel, "flows": vector["draft"] == 2}
        bits = tuple(f"eespsa.{name}:{'TRUE' if on else 'FALSE'}" for name, on in said.items())
        return (*bits, "eespudp.profile:eesp")
    return ("eespudp.profile:stateless",) if profile == "stateless" else ()


def check(profile: str, port: int) -> str:
    protocol, reasons = PROFILES[profile]
    vectors = json.loads((ROOT / f"testdata/vectors/{profile}.json").read_text())
    groups: dict[tuple[str, ...], list[tuple[Vector, str]]] = {}
    for section in ("seal", "accepted", "refused"):
        for vector in vectors[section]:
            reason = vector.get("reason", "")
            if not vector["packet"] or reason and reason not in reasons and reason != "auth":
                continue
            if reason == "no_key" and int(vector["packet"][8:16], 16) & 0x7FFFFFFF:
                continue  # there is no such device key
            if profile == "psp" and reason == "version" and int(vector["packet"][6:8], 16) >> 2 & 15 < 4:
                continue  # the receiver does not accept it
            if profile == "stateless" and section == "accepted":
                continue  # their fields are named in another way
            groups.setdefault(preferences(profile, vector), []).append((vector, reason))
    sound = refused = 0
    for number, (preferred, members) in enumerate(groups.items()):
        path = WORK / f"{profile}-{number}.pcap"
        capture(path, [bytes.fromhex(vector["packet"]) for vector, _ in members], port)
        names = sorted({name for vector, reason in members if "id" in vector or "spi" in vector or "sdi" in vector
                        for name in (known(profile, vector) if not reason and "payload_len" in vector else {})})
        lines = read(path, ["_ws.expert.message", "frame.protocols", *names], list(preferred))
        assert len(lines) == len(members), (len(lines), len(members))
        for (vector, reason), line in zip(members, lines):
            line += [""] * (2 + len(names) - len(line))
            where = f"{profile}: {vector['name']}: {line}"
            assert protocol in line[1], where
            noted = re.findall(r"EESP_ERR_(\w+):", line[0])
            want = [] if reason in ("", "auth") else [reason.upper()]
            # A forged packet may be malformed besides.
            assert noted == want or reason == "auth" and len(noted) <= 1, f"{where}: want {want}"
            if want:
                refused += 1
                continue
            sound += 1
            if reason or "payload_len" not in vector:
                continue
            for name, value in known(profile, vector).items():
                assert int(line[2 + names.index(name)].split(",")[0], 0) == value, f"{where}: {name} is not {value}"
    return f"{profile}: {sound} packets as the vectors have them, {refused} noted with the status that refuses them"


def shown() -> str:
    """The pictures of docs/wireshark.md: `<!-- PROFILE: SECTION/NAME -->`, and what tshark prints of that packet."""
    text = (ROOT / "docs/wireshark.md").read_text()
    pictures = re.findall(r"<!-- (\w+): (\w+)/(\S+) -->\n```text\n(.*?)```", text, flags=re.S)
    assert len(pictures) == 5, len(pictures)
    for profile, section, name, picture in pictures:
        found = json.loads((ROOT / f"testdata/vectors/{profile}.json").read_text())[section]
        (vector,) = (one for one in found if one["name"] == name)
        path = WORK / "shown.pcap"
        capture(path, [bytes.fromhex(vector["packet"])], ports()[profile])
        command = [TSHARK, "-X", f"lua_script:{ROOT}/wireshark/eesp.lua", "-r", str(path), "-O", PROFILES[profile][0]]
        for preference in preferences(profile, vector):
            command += ["-o", preference]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        start = printed.index("\n", printed.index("User Datagram Protocol")) + 1
        printed = "".join(line.rstrip() + "\n" for line in printed[start:].strip("\n").split("\n"))
        assert printed == picture, f"docs/wireshark.md shows another {name}:\n{printed}"
    return f"docs/wireshark.md shows {len(pictures)} packets as tshark prints them"


def more_ports() -> str:
    """Ports beside the default, and IPsec's as Wireshark has it where they are not named."""
    found = json.loads((ROOT / "testdata/vectors/stateless.json").read_text())["seal"]
    packet, port = bytes.fromhex(found[0]["packet"]), ports()["stateless"]
    for preference, known_at in (
        ([], [port]),
        ([f"eespudp.port:{port},4500"], [port, 4500]),
        (["eespudp.port:4500"], [4500]),
        ([f"eespudp.port:4499-4501,{port}"], [4499, 4500, port]),
    ):
        for number in (port, 4499, 4500):
            path = WORK / "port.pcap"
            capture(path, [packet], number)
            (line,) = read(path, ["frame.protocols"], preference)
            assert line[0].endswith(":eespse") == (number in known_at), (preference, number, line)
            assert number != 4500 or number in known_at or "udpencap" in line[0], line
    return "eespudp.port takes ports beside the default, and leaves 4500 to IPsec if it is not named"


def main() -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    lua = (ROOT / "wireshark/eesp.lua").read_text()
    for name, port in sorted(ports().items(), key=lambda item: list(PROFILES).index(item[0])):
        assert re.search(rf"\b{port}\b", lua), f"wireshark/eesp.lua does not name port {port} of {name}"
        print("wireshark:", check(name, port), flush=True)
    print("wireshark:", more_ports())
    print("wireshark:", shown())


main()
