#!/usr/bin/env python3
"""Writes the files in ../vectors; with --check, fails if one differs from what would be written.

Everything is derived from fixed seeds, so the output never changes unless the code does. README.md says what the
fields mean.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from generators import eesp, psp, stateless, tss
from generators.vectors import Sections, check_names, render

OUTPUT = Path(__file__).resolve().parent.parent / "vectors"

PROFILES: dict[str, Callable[[], Sections]] = {
    "stateless": stateless.build,
    "psp": psp.build,
    "tss": tss.build,
    "eesp": eesp.build,
}


def output(profile: str) -> Path:
    """The file of a profile's vectors."""
    return OUTPUT / f"{profile}.json"


def generate(profile: str) -> tuple[Sections, str]:
    """A profile's vectors, and the text of their file."""
    sections = PROFILES[profile]()
    check_names(sections)
    return sections, render(profile, sections)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    arguments = parser.parse_args()
    differ = 0
    for profile in PROFILES:
        sections, text = generate(profile)
        path = output(profile)
        counts = ", ".join(f"{len(vectors)} {section}" for section, vectors in sections.items())
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii")
            print(f"{path.name}: {counts}; {len(text)} octets")
        elif not path.exists() or path.read_text(encoding="ascii") != text:
            print(f"{path.name} differs from what is generated", file=sys.stderr)
            differ = 1
        else:
            print(f"{path.name} is up to date: {counts}")
    return differ


if __name__ == "__main__":
    sys.exit(main())
