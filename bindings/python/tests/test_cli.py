# SPDX-License-Identifier: BSD-3-Clause
"""python -m eesp."""

import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eesp
from conftest import ROOT
from eesp.__main__ import Progress, main
from eesp.pcap import CaptureError, Reader, Writer

CAPTURES = ROOT / "testdata" / "captures"
sys.path.append(str(CAPTURES))
from forms import forms  # noqa: E402
PACKETS, OCTETS = 3275, 2690995  # testdata/captures/README.md


@pytest.fixture
def key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path = tmp_path / "zone.der"
    assert main(["keygen", str(path), "--id", "zone of the tests"]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    return str(path)


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0, fault: str = "") -> Any:
    assert main([*map(str, arguments), "--json"]) == code
    out, err = capsys.readouterr()
    assert fault in err and bool(err) == bool(fault), err
    return json.loads(out)


def packets_of(path: Path) -> list[tuple[int, bytes]]:
    with path.open("rb") as file:
        return [(frame.time_ns, frame.packet) for frame in Reader(file)]


@pytest.mark.parametrize(
    ("v", "ends"),
    [("ID", ["192.0.2.1", "192.0.2.2"]), ("ID_SRC", ["2001:db8::1", "2001:db8::2"]), ("LONG_ID_SRC_DST", None)],
)
def test_a_capture_there_and_back(
    v: str, ends: list[str] | None, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, sealed, opened = CAPTURES / "mixed.pcap", tmp_path / "sealed.pcap", tmp_path / "opened.pcap"
    where = ["--src", ends[0], "--dst", ends[1]] if ends else []
    done = run_json(capsys, "seal", whole, sealed, "--zone", key, "--id", "0x77", "--v", v, *where)
    assert (done["sealed"], done["failed"], done["skipped"]["not_ip"]) == (PACKETS, {}, 2)

    seen = run_json(capsys, "inspect", sealed)
    assert seen["packets"] == PACKETS and not seen["malformed"] and not seen["other"]
    assert [(row["id"], row["v"], row["packets"], row["not_ascending"]) for row in seen["ids"]] == [
        (0x77, v, PACKETS, 0)
    ]
    assert sum(row["packets"] for row in seen["epochs"]) == PACKETS
    (root,) = seen["root_keys"]
    assert bytes.fromhex(root["root_key_id"]) == b"zone of the tests"

    done = run_json(capsys, "open", sealed, opened, "--zone", key)
    assert (done["opened"], done["octets"], done["failed"]) == (PACKETS, OCTETS, {})
    assert packets_of(opened) == packets_of(whole)


def test_a_damaged_packet(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sealed, opened = tmp_path / "sealed.pcap", tmp_path / "opened.pcap"
    run_json(capsys, "seal", CAPTURES / "mixed.pcap", sealed, "--zone", key, "--id", 0x55)
    octets = bytearray(sealed.read_bytes())
    octets[-1] ^= 1
    sealed.write_bytes(octets)
    done = run_json(capsys, "open", sealed, opened, "--zone", key, code=1)
    assert (done["opened"], done["failed"]) == (PACKETS - 1, {"AUTH": 1})
    assert main(["open", str(sealed), str(opened), "--zone", key]) == 1
    assert "failed: 1 (authentication failed" in capsys.readouterr().out
    other = tmp_path / "other.der"
    main(["keygen", str(other), "--id", "another zone's key"])
    capsys.readouterr()
    assert run_json(capsys, "open", sealed, opened, "--zone", other, code=1)["failed"] == {"NO_KEY": PACKETS}


def test_text(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sealed = tmp_path / "sealed.pcap"
    assert main(["seal", str(CAPTURES / "mixed.pcap"), str(sealed), "--zone", key, "--id", "9"]) == 0
    assert f"sealed {PACKETS} packets" in capsys.readouterr().out
    assert main(["inspect", str(sealed)]) == 0
    out = capsys.readouterr().out
    assert f"{PACKETS} sealed packets" in out and "Epochs" in out and "0x9" in out


def test_captures_that_end_early(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = CAPTURES / "truncated.pcap"
    fault = f"eesp: {cut}: cut short in frame 21, where reading ends\n"
    assert run_json(capsys, "inspect", cut, code=1, fault=fault)["truncated"] == 1
    done = run_json(capsys, "seal", cut, tmp_path / "s.pcap", "--zone", key, "--id", 6, code=1, fault=fault)
    assert done["sealed"] + done["skipped"]["not_ip"] == 20


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"hello", "neither a pcap nor a pcapng file"),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 147), "link type 147"),
        (struct.pack("<IHHiIII4I", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1, 0, 0, 1 << 30, 0), "damaged"),
    ],
)
def test_what_is_no_capture(
    octets: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(octets)
    assert main(["inspect", str(path)]) == 1
    assert message in capsys.readouterr().err


FORMS = forms()


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_captures(name: str) -> None:
    """tests/example.sh holds the C tool against the same list."""
    form = FORMS[name]
    faults: list[str] = []
    try:
        reader = Reader(io.BytesIO(form["octets"]), fault=faults.append)
        assert [(f.time_ns, f.packet) for f in reader] == form["packets"]
    except CaptureError as error:
        assert form.get("refused", "none") in str(error)
        return
    assert "refused" not in form and len(faults) == form["malformed"] + reader.skipped.truncated
    assert any(form.get("fault", "") in text for text in faults or [""]) and bool(faults) == ("fault" in form)
    s = reader.skipped
    counts = (s.not_ip, s.cut, s.malformed_frames, reader.clamped)
    assert counts == (form["not_ip"], form["cut"], form["malformed"], form["clamped"])


def test_malformed_frames(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each malformed frame is reported, the others are sealed, and the command fails."""
    path, sealed, line = tmp_path / "x.pcap", tmp_path / "s.pcapng", ["--zone", key, "--id", 6]
    path.write_bytes(FORMS["jumbogram"]["octets"])
    fault = f"eesp: {path}: frame 1: IPv6 payload length 0: a jumbogram, or BIG TCP\n"
    done = run_json(capsys, "seal", path, sealed, *line, code=1, fault=fault)
    assert (done["sealed"], done["skipped"]["malformed_frames"]) == (1, 1)
    assert main(["inspect", str(path)]) == 1
    assert "malformed frames: 1" in capsys.readouterr().out
    octets = FORMS["tso"]["octets"]
    path.write_bytes(octets[:24] + octets[24:] * 15)
    done = run_json(capsys, "seal", path, sealed, *line, code=1, fault="x.pcap: 5 more like that\n")
    assert (done["sealed"], done["skipped"]["malformed_frames"]) == (15, 15)
    path.write_bytes(FORMS["us-a-second"]["octets"])
    assert run_json(capsys, "seal", path, sealed, *line)["times_clamped"] == 1
    assert main(["seal", str(path), str(sealed), *map(str, line)]) == 0
    assert "clamped: 1" in capsys.readouterr().out


def test_pcapng(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """pcapng is written if the name ends so, and read with any name."""
    whole, sealed, opened = CAPTURES / "mixed.pcap", tmp_path / "sealed.pcapng", tmp_path / "opened.pcapng"
    run_json(capsys, "seal", whole, sealed, "--zone", key, "--id", 7)
    run_json(capsys, "open", sealed, opened, "--zone", key)
    for path in (sealed, opened):
        assert path.read_bytes()[:4] == b"\n\r\r\n"
        assert path.stat().st_size % 4 == 0
    assert packets_of(opened) == packets_of(whole)
    late = (1 << 64) - 1  # pcap has 32 bits of seconds
    for pcapng, time_ns in ((True, late), (False, ((1 << 32) - 1) * 10**9 + late % 10**9)):
        with opened.open("wb") as file:
            Writer(file, pcapng).write(late, packets_of(whole)[0][1])
        assert packets_of(opened) == [(time_ns, packets_of(whole)[0][1])]


def test_the_input_is_kept(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, link, hard = tmp_path / "x.pcap", tmp_path / "link.pcap", tmp_path / "hard.pcap"
    octets = (CAPTURES / "truncated.pcap").read_bytes()
    path.write_bytes(octets)
    link.symlink_to(path)
    hard.hardlink_to(path)
    for out in (path, link, hard):
        for command in (["seal", "--id", "7"], ["open"]):
            assert main([*command, "--zone", key, str(path), str(out)]) == 1
            assert f"eesp: {out}: this is the input\n" in capsys.readouterr().err
    assert path.read_bytes() == octets and link.is_symlink() and hard.samefile(path)


def test_messages_name_what_the_user_named(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = str(CAPTURES / "mixed.pcap")
    nowhere, long, missing = tmp_path / "none" / "x.pcap", tmp_path / ("x" * 255), tmp_path / "missing.pcap"
    for source, out, message in (
        (whole, nowhere, f"eesp: {nowhere}: No such file or directory\n"),
        (whole, long, f"eesp: {long}: File name too long\n"),
        (whole, tmp_path, f"eesp: {tmp_path}: Is a directory\n"),
        (whole, Path("/dev/full"), "eesp: /dev/full: No space left on device\n"),
        (str(missing), tmp_path / "x.pcap", f"eesp: {missing}: No such file or directory\n"),
        (str(tmp_path), tmp_path / "x.pcap", f"eesp: {tmp_path}: Is a directory\n"),
    ):
        assert main(["seal", source, str(out), "--zone", key, "--id", "7"]) == 1
        assert capsys.readouterr().err == message
    assert [p.name for p in tmp_path.iterdir()] == ["zone.der"]


def test_transport_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, sealed, opened, key = CAPTURES / "mixed.pcap", tmp_path / "sealed.pcap", tmp_path / "opened.pcap", tmp_path / "key"
    whole_packets = packets_of(whole)
    for profile in ("psp", "eesp"):
        line: list[object] = ["--profile", profile, "--key", key, "--transport"]
        line += ["--domain", 5] if profile == "eesp" else []
        key.unlink(missing_ok=True)
        run_json(capsys, "keygen", key, "--profile", profile)
        done = run_json(capsys, "seal", whole, sealed, "--id", 9, *line, code=1)  # fragments, and extension headers
        assert done["failed"] == {"UNSUPPORTED": PACKETS - done["sealed"]} and done["sealed"] > 3000
        outer = packets_of(sealed)
        ends = {packet[12:20] if packet[0] >> 4 == 4 else packet[8:40] for _, packet in whole_packets}
        assert {packet[12:20] if packet[0] >> 4 == 4 else packet[8:40] for _, packet in outer} <= ends
        assert run_json(capsys, "open", sealed, opened, *line)["opened"] == done["sealed"]
        assert set(packets_of(opened)) <= set(whole_packets)
    for wrong, message in (
        (["--profile", "stateless", "--zone", str(key)], "--transport goes with --profile psp or eesp"),
        (["--profile", "eesp", "--key", str(key), "--optimized"], "not with --optimized"),
    ):
        assert main(["seal", str(whole), str(sealed), "--id", "9", "--transport", *wrong]) == 1
        assert message in capsys.readouterr().err


def test_keys_of_the_wrong_kind(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error says what the file seems to be, and its name."""
    raw, pem, cut, long, odd = (tmp_path / name for name in ("raw", "pem", "cut", "long", "odd"))
    raw.write_bytes(bytes(range(32)))
    pem.write_bytes(b"-----BEGIN EESP ROOT KEY-----\n")
    cut.write_bytes(Path(key).read_bytes()[:50])
    long.write_bytes(bytes(600))
    odd.write_bytes(bytes(31))
    files = [str(CAPTURES / "mixed.pcap"), str(tmp_path / "out.pcap"), "--id", "7"]
    zone, slot = ["--zone"], ["--profile", "psp", "--key"]
    for option, path, message in (
        (zone, raw, "no root key in DER: it is 32 octets without form, as a key of psp, tss or eesp is"),
        (zone, pem, "no root key in DER: it is PEM or another text, and DER is wanted"),
        (zone, cut, "no root key in DER: invalid root key: RootKeyStruct is cut short: there are 50 of 137 octets"),
        (zone, long, " is too long for a key\n"),
        (zone, CAPTURES / "mixed.pcap", " is too long for a key: it is a capture"),
        (slot, key, "no key of profile psp: it is DER, as a root key of profile stateless is"),
        (slot, pem, "no key of profile psp: it is PEM"),
        (slot, odd, "no key of profile psp: invalid root key: a key of 31 octets, not 32"),
        (slot, CAPTURES / "mixed.pcap", " is too long for a key: it is a capture"),
    ):
        assert main(["seal", *files, *option, str(path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith(f"eesp: {path}") and message in err, err


def test_errors(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, out = str(CAPTURES / "mixed.pcap"), tmp_path / "out.pcap"
    for arguments, message in (
        (["inspect", str(tmp_path / "none")], "No such file"),
        (["seal", whole, str(out), "--id", "1"], "a root key is needed"),
        (["seal", whole, str(out), "--id", "1", "--zone", whole], "too long for a key"),
        (["seal", whole, str(out), "--id", "1", "--zone", key, "--src", "::1"], "must have the same IP version"),
        (["seal", whole, str(out), "--id", "1", "--zone", key, "--src", "nowhere"], "nowhere"),
        (["seal", whole, str(out), "--id", str(2**32), "--zone", key], "invalid argument"),
        (["keygen", key, "--id", "zone of the tests"], "File exists"),
        (["keygen", str(tmp_path / "k"), "--id", "short"], "root key"),
    ):
        assert main(arguments) == 1, arguments
        err = capsys.readouterr().err
        assert err.startswith("eesp: ") and message in err, err
    assert not list(tmp_path.glob("out.pcap*"))
    wrong_ones: list[list[str]] = [["seal"], ["derive", "--id", "x"], ["no-such"], []]
    for wrong in wrong_ones:
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 2


@pytest.mark.parametrize(
    ("profile", "options", "form"),
    [
        ("psp", [], []),
        ("psp", ["--v", "AES_256_GMAC"], []),
        ("eesp", ["--domain", "0x1001", "--align8"], []),
        ("eesp", ["--domain", 7, "--sskdf", "HKDF_SHA2_512", "--aead", "AES_256_GCM"], ["--iv"]),
        ("eesp", ["--domain", 8], ["--no-sequence", "--iv", "--optimized"]),
    ],
)
def test_profiles_there_and_back(
    profile: str, options: list[str], form: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, sealed, opened, key = (tmp_path / name for name in ("whole.pcap", "sealed.pcap", "opened.pcap", "key"))
    whole.symlink_to(CAPTURES / "mixed.pcap")
    line = ["--profile", profile]
    made = run_json(capsys, "keygen", key, *line, *(options[2:4] if "--sskdf" in options else []))
    assert made["octets"] == key.stat().st_size == (64 if "--sskdf" in options else 32)
    assert key.stat().st_mode & 0o777 == 0o600
    line += ["--key", str(key), *map(str, options), *form]
    done = run_json(capsys, "seal", whole, sealed, "--id", 9, *line)
    assert (done["sealed"], done["failed"]) == (PACKETS, {})

    seen = run_json(capsys, "inspect", sealed, "--profile", profile, *form)
    assert seen["packets"] == PACKETS and not seen["malformed"] and not seen["other"]
    (row,) = seen["ids"]
    assert (row["id"], row["packets"], row["not_ascending"]) == (9, PACKETS, 0)
    if profile == "psp":
        assert row["v"] == ("AES_256_GMAC" if options else "AES_128_GCM")
        assert {r["next_header"] for r in seen["next_headers"]} == {4, 41}
        assert seen["keys"] == [{"key": 0, "packets": PACKETS}]
    else:
        assert row["domain"] == int(str(options[1]), 0)
    assert main(["inspect", str(sealed), "--profile", profile, *form]) == 0
    assert "Epochs" in capsys.readouterr().out

    line = line[: 4 if profile == "psp" else None]
    replay = [] if "--no-sequence" in form else ["--replay-window", 64]
    done = run_json(capsys, "open", sealed, opened, *line, *replay)
    assert (done["opened"], done["octets"], done["failed"]) == (PACKETS, OCTETS, {})
    assert packets_of(opened) == packets_of(whole)


def test_replayed_packets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, sealed = tmp_path / "key", tmp_path / "sealed.pcap"
    line = ["--profile", "psp", "--key", key]
    run_json(capsys, "keygen", key, "--profile", "psp")
    run_json(capsys, "seal", CAPTURES / "mixed.pcap", sealed, "--id", 10, *line)
    octets = sealed.read_bytes()
    sealed.write_bytes(octets + octets[24:])
    done = run_json(capsys, "open", sealed, tmp_path / "o.pcap", *line, "--replay-window", 64, code=1)
    assert (done["opened"], done["failed"]) == (PACKETS, {"REPLAY": PACKETS})


def test_inspect_of_tss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Made with the Python API: two senders, one without SSI."""
    path = tmp_path / "tss.pcap"
    ends = "192.0.2.1", "192.0.2.2"
    with eesp.TrustGroup(profile=eesp.Profile.TSS, domain=0x5D1, mode=eesp.TssMode.DIRECT) as group:
        group.rotate_key()
        lead = eesp.tss_lead(*ends, (0xC000).to_bytes(2, "big") + eesp.TSS_UDP_PORT.to_bytes(2, "big"))
        kinds: list[tuple[int, eesp.TssV]] = [(0x77, eesp.TssV.SSI), (0, eesp.TssV.ADDR)]
        with path.open("wb") as file:
            writer = Writer(file)
            for id, v in kinds:
                with eesp.Sender(group, id, v=v) as sender:
                    packet = sender.seal_one(b"to be looked at", lead=lead)
                size = 8 + len(packet)
                ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, 0, 64, 17, 0) + lead[:8]
                writer.write(0, ip, lead[8:], struct.pack(">HH", size, 0), packet)
    seen = run_json(capsys, "inspect", path, "--profile", "tss")
    assert [(r["domain"], r["id"], r["v"], r["packets"]) for r in seen["ids"]] == [
        (0x5D1, 0, "ADDR", 1),
        (0x5D1, 0x77, "SSI", 1),
    ]
    assert seen["keys"] == [{"domain": 0x5D1, "key": 0, "packets": 2}] and not seen["malformed"]


def test_derive_of_profiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    for profile, options, sizes in (
        ("psp", ["--id", 9], (16, 0)),
        ("psp", ["--id", 9, "--v", "AES_256_GCM"], (32, 0)),
        ("tss", ["--id", 9, "--v", "SSI", "--epoch", 7], (32, 12)),
        ("tss", ["--id", 0, "--v", "ADDR", "--epoch", 7, "--src", "192.0.2.1", "--mode", "SERVER"], (32, 12)),
        ("tss", ["--id", 9, "--v", "SSI", "--epoch", 7, "--rekey", 5, "--rekey-mask", 0xFF], (32, 12)),
        ("eesp", ["--id", 9, "--domain", 5], (16, 4)),
        ("eesp", ["--id", 9, "--aead", "AES_256_GCM", "--sskdf", "AES256_CMAC"], (32, 4)),
    ):
        done = run_json(capsys, "derive", "--profile", profile, "--key", key, *options)
        assert (len(done["key"]) // 2, len(done.get("salt", "")) // 2) == sizes, options
    group = eesp.TrustGroup(profile=eesp.Profile.PSP)
    group.set_key(1, bytes(range(32)))
    spi = 1 << 31 | 9
    done = run_json(capsys, "derive", "--profile", "psp", "--key1", key, "--id", spi)
    with group, group.derive_keys([eesp.Context(spi)]) as keys:
        assert keys[0].hex() == done["key"]


def test_options_of_other_profiles(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(CAPTURES / "mixed.pcap"), str(tmp_path / "out.pcap")]
    for arguments, message in (
        (["seal", *files, "--id", "1", "--zone", key, "--key", key], "--key goes with --profile psp or tss or eesp"),
        (["seal", *files, "--id", "1", "--profile", "psp", "--zone", key], "--zone goes with --profile stateless"),
        (["seal", *files, "--id", "1", "--profile", "psp"], "a key is needed: --key"),
        (["seal", *files, "--id", "1", "--profile", "psp", "--no-options"], "--no-options goes with"),
        (["seal", *files, "--id", "1", "--profile", "psp", "--v", "SSI"], "--v SSI is not of profile psp"),
        (["seal", *files, "--id", "1", "--profile", "eesp", "--v", "ID"], "--v goes with"),
        (["seal", *files, "--id", "1", "--profile", "tss", "--key", key], "profile tss has no UDP tunnel"),
        (["open", *files, "--profile", "tss"], "profile tss has no UDP tunnel"),
        (["open", *files, "--profile", "psp", "--key", key], "no key of profile psp"),
        (["derive", "--profile", "tss", "--id", "1", "--epoch", "1", "--key", key], "--v is needed"),
        (["derive", "--profile", "tss", "--id", "1", "--v", "SSI"], "--epoch is needed"),
        (["derive", "--profile", "psp", "--id", "1", "--epoch", "1"], "--epoch goes with"),
        (["derive", "--profile", "psp", "--id", "1", "--v", "AES_256_GCM", "--aead", "AES_128_GCM"], "does not go with"),
        (["derive", "--id", "1", "--zone", key], "--epoch is needed"),
        (["inspect", files[0], "--iv"], "--iv goes with --profile eesp"),
        (["inspect", files[0], "--profile", "eesp", "--no-sequence"], "--no-sequence goes with --iv"),
        (["keygen", str(tmp_path / "k"), "--profile", "psp", "--id", "name"], "--id goes with"),
        (["keygen", str(tmp_path / "k")], "--id is needed"),
    ):
        assert main(arguments) == 1, arguments
        err = capsys.readouterr().err
        assert err.startswith("eesp: ") and message in err, (arguments, err)


def test_derive(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_json(capsys, "derive", "--zone", key, "--id", 7, "--epoch", 3)
    assert len(bytes.fromhex(first["key"])) == 16
    same = run_json(capsys, "derive", "--zone", key, "--id", 7, "--epoch", 3, "--src", "192.0.2.99")
    assert same["key"] == first["key"]
    for other in (["--epoch", 4], ["--epoch", 3, "--v", "ID_SRC"], ["--epoch", 3, "--generation", "NEXT"]):
        assert run_json(capsys, "derive", "--zone", key, "--id", 7, *other)["key"] != first["key"]
    long = run_json(capsys, "derive", "--zone", key, "--id", 7, "--epoch", 3, "--aead", "AES_256_GCM")
    assert len(bytes.fromhex(long["key"])) == 32
    named = run_json(capsys, "derive", "--zone", key, "--id", 7, "--epoch", 3, "--levels", "ZONE")
    assert named["key"] == first["key"]


def test_backends_selftest_bench(capsys: pytest.CaptureFixture[str]) -> None:
    listed = run_json(capsys, "backends")
    assert [b["name"] for b in listed["backends"]][-1] == "generic"
    assert sum(b["in_force"] for b in listed["backends"]) == 1
    assert "generic" in run_json(capsys, "selftest")["passed"]
    measured = run_json(capsys, "bench", "--seconds", "0", "--bursts", "1", "8")["results"]
    ways = {(m["way"], m["burst"]) for m in measured}
    assert {("seal_into", 1), ("seal_into", 8), ("open_into", 8), ("pyca AESGCM", 8), ("seal_one", 1)} <= ways
    assert all(m["packets_per_second"] >= 0 for m in measured)
    for command in ("backends", "selftest"):
        assert main([command]) == 0
        assert "generic" in capsys.readouterr().out


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(200, True)
    for _ in range(4):
        bar(50)
    bar.end()
    err = capsys.readouterr().err
    assert " 25%" in err and "100%" in err and err.endswith("\r")
    Progress(1 << 30, None)(1 << 30)  # not a terminal
    assert capsys.readouterr().err == ""


def test_as_a_program() -> None:
    ran = subprocess.run([sys.executable, "-m", "eesp", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("eesp 1.0.0, libeesp 1.")


def test_what_is_there_keeps_its_mode(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, link, fresh = tmp_path / "private.pcap", tmp_path / "link.pcap", tmp_path / "fresh.pcap"
    private.touch(0o640)
    private.chmod(0o640)
    link.symlink_to(private)
    for out in (link, fresh, "/dev/null"):
        run_json(capsys, "seal", CAPTURES / "mixed.pcap", out, "--zone", key, "--id", 7)
    assert link.is_symlink() and private.stat().st_mode & 0o777 == 0o640 and len(packets_of(private)) == PACKETS
    assert fresh.stat().st_mode & 0o777 == 0o600
    assert Path("/dev/null").is_char_device()
    assert {p.name for p in tmp_path.iterdir()} == {"zone.der", "private.pcap", "link.pcap", "fresh.pcap"}


def test_a_level_named_twice(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["derive", "--zone", key, "--user", key, "--id", 7, "--epoch", 1, "--levels", "ZONE"]
    assert run_json(capsys, *line) == run_json(capsys, *line, "ZONE")


@pytest.mark.parametrize(
    "line",
    [
        ["inspect", "x", "--port", "70000"],
        ["inspect", "x", "--port", "-1"],
        ["bench", "--bursts", "0"],
        ["bench", "--seconds", "nan"],
    ],
)
def test_numbers_out_of_range(line: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(line)
    assert end.value.code == 2


def test_a_time_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "damaged.pcap"
    octets = bytearray((CAPTURES / "mixed.pcap").read_bytes())
    octets[24:32] = b"\xff" * 8
    path.write_bytes(octets)
    assert main(["inspect", str(path)]) == 0  # it is clamped
    assert capsys.readouterr().err == ""
