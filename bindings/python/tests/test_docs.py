# SPDX-License-Identifier: BSD-3-Clause
"""The tutorial's code runs, and prints what the page says."""

import contextlib
import importlib
import io
import re
from pathlib import Path

import pytest

import eesp
from conftest import ROOT

PAGE = ROOT / "docs" / "python.md"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.M | re.S)


def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mixed.pcap").symlink_to(ROOT / "testdata" / "captures" / "mixed.pcap")
    page = PAGE.read_text()
    names: dict[str, object] = {"__name__": "tutorial"}
    printed, ran = "", 0
    for match in BLOCK.finditer(page):
        kind, text = match.groups()
        if kind == "text":
            assert printed == text, f"the code before {text!r} prints {printed!r}"
            printed = ""
            continue
        assert not printed, f"the page does not say what is printed: {printed!r}"
        line = page[: match.start(2)].count("\n")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile("\n" * line + text, str(PAGE), "exec"), names)
        printed = out.getvalue()
        ran += 1
    assert ran > 8 and not printed
    assert b"<svg" in (tmp_path / "python-throughput.svg").read_bytes()


def test_it_names_what_is_there() -> None:
    for name in re.findall(r"`eesp\.(\w+)", PAGE.read_text()):
        assert hasattr(eesp, name) or importlib.import_module(f"eesp.{name}"), name


def test_the_docstring_runs() -> None:
    code = re.search(r"\n    with .*?\n\n", eesp.__doc__ or "", re.S)
    assert code
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec("import eesp\nif True:\n" + code[0], {})
    assert out.getvalue() == "2 b'two'\n"
