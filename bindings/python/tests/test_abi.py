# SPDX-License-Identifier: BSD-3-Clause
"""The ctypes declarations agree with the header."""

import ctypes
import enum
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT
from eesp import _abi, _types
from eesp._version import __version__

HEADER = (ROOT / "include" / "eesp.h").read_text()
CODE = re.sub(r"/\*.*?\*/", " ", HEADER, flags=re.S)

# The names that enumerations and flags have in the header.
ENUMS: dict[str, type[enum.IntEnum] | type[enum.IntFlag]] = {
    "EESP_ERR_": _types.Status,
    "EESP_PROFILE_": _types.Profile,
    "EESP_AEAD_": _types.Aead,
    "EESP_COMBINER_": _types.Combiner,
    "EESP_LEVEL_": _types.Level,
    "EESP_LEVELS_": _types.Levels,
    "EESP_V_": _types.V,
    "EESP_V_PSP_": _types.PspVersion,
    "EESP_V_TSS_": _types.TssV,
    "EESP_TSS_": _types.TssMode,
    "EESP_SSKDF_": _types.Sskdf,
    "EESP_ENCAP_": _types.Encap,
    "EESP_UDP_": _types.UdpMode,
    "EESP_GENERATION_": _types.Generation,
}
# Constants of the header that have another form here, or none.
ELSEWHERE = {"EESP_OK": 0, "EESP_COUNTER_CLOCK": 0, "EESP_COUNTER_RESERVED": 1, "EESP_COUNTER_EXPLICIT": 2}


def python_constants() -> dict[str, int]:
    found = {
        f"EESP_{name}": value for name, value in vars(_abi).items() if name.isupper() and isinstance(value, int)
    }
    for prefix, members in ENUMS.items():
        found |= {f"{prefix}{member.name}": member.value for member in members}
    del found["EESP_ERR_OK"]
    return found | ELSEWHERE


def test_every_constant_is_declared() -> None:
    defined = set(re.findall(r"^#define (EESP_[A-Z0-9_]+)[ \t]+\S", CODE, flags=re.M))
    defined -= {name for name in defined if name.startswith("EESP_VERSION")}
    defined -= {"EESP_API", "EESP_MUST_CHECK", "EESP_AGENT_SOCKET"} | {n for n in defined if n.endswith("_INIT")}
    for body in re.findall(r"typedef enum \w+ \{(.*?)\}", CODE, flags=re.S):
        defined |= set(re.findall(r"(EESP_\w+) =", body))
    assert defined == set(python_constants())


def test_the_version_is_the_headers() -> None:
    numbers = [re.search(rf"#define EESP_VERSION_{part} (\d+)", HEADER) for part in ("MAJOR", "MINOR", "PATCH")]
    assert ".".join(n[1] for n in numbers if n) == __version__
    project = tomllib.loads((ROOT / "bindings" / "python" / "pyproject.toml").read_text())["project"]
    assert project["dynamic"] == ["version"]


def test_every_structure_and_field_is_declared() -> None:
    found = {}
    for name, body in re.findall(r"typedef struct (eesp_\w+) \{(.*?)\n\} \1;", CODE, flags=re.S):
        found[name] = re.findall(r"(\w+)(?:\[\w+\])*;", body)
    assert found == {name: [f[0] for f in s._fields_] for name, s in _abi.STRUCTURES.items()}


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_numbers_of_the_header(tmp_path: Path) -> None:
    """Sizes, offsets, sizes of fields, and constants, as a C compiler sees them."""
    wanted = {f"(long)({name})": value for name, value in python_constants().items()}
    for name, structure in _abi.STRUCTURES.items():
        wanted[f"(long)sizeof({name})"] = ctypes.sizeof(structure)
        for field, *_ in structure._fields_:
            place = getattr(structure, field)
            wanted[f"(long)offsetof({name}, {field})"] = place.offset
            wanted[f"(long)sizeof((({name} *)0)->{field})"] = place.size
    prints = "".join(f'printf("%ld\\n", {expression});\n' for expression in wanted)
    (tmp_path / "n.c").write_text(f"#include <eesp.h>\n#include <stdio.h>\nint main(void) {{\n{prints}return 0;\n}}\n")
    subprocess.run(["cc", "-I", ROOT / "include", "-o", tmp_path / "n", tmp_path / "n.c"], check=True)
    printed = subprocess.run([tmp_path / "n"], check=True, capture_output=True, text=True).stdout.split()
    assert dict(zip(wanted, map(int, printed), strict=True)) == wanted


KINDS = {
    "void": None,
    "int": ctypes.c_int,
    "eesp_status": ctypes.c_int,
    "unsigned": ctypes.c_uint,
    "size_t": ctypes.c_size_t,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
}


def kind(declaration: str) -> object:
    """The ctypes type of a parameter or result."""
    if re.fullmatch(r"const char \*(name)?", declaration):
        return ctypes.c_char_p
    if "*" in declaration or "[" in declaration:
        return ctypes.c_void_p
    return KINDS[declaration.split()[0]]


def test_every_function_is_declared() -> None:
    found = {}
    flat = " ".join(CODE.split())
    for result, name, parameters in re.findall(
        r"EESP_API (?:EESP_MUST_CHECK )?([\w ]+?[ \*]+)(eesp_\w+)\((.*?)\);", flat
    ):
        types = [] if parameters == "void" else [kind(p.strip()) for p in parameters.split(",")]
        found[name] = (kind(result.strip()), types)
    assert len(found) == flat.count("EESP_API ") - len(re.findall(r"#define EESP_API", flat)) - flat.count(
        "# define EESP_API"
    )
    assert found == _abi.FUNCTIONS
