# SPDX-License-Identifier: BSD-3-Clause
"""Shared by the tests: the repository's files, the independent reference, groups with new IDs."""

import importlib.util
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import eesp

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "testdata" / "reference"
sys.path.append(str(REFERENCE))


def reference_of(profile: str) -> Any:
    """The independent implementation of a profile, under another name: that of eesp is called as the package is."""
    name = f"reference_{profile}"
    spec = importlib.util.spec_from_file_location(name, REFERENCE / profile / "__init__.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


# The same examples in every run; nothing is kept between runs.
settings.register_profile(
    "eesp",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("eesp")


def examples(many: int) -> int:
    """How many examples a test takes: a third in ``make test``, all in ``make test-more``."""
    return many if os.environ.get("EESP_TEST_LONG") else many // 3


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Notes what is skipped, for ``make test`` to say at its end."""
    if report.skipped and isinstance(report.longrepr, tuple):
        with open(os.environ.get("EESP_SKIPPED") or os.devnull, "a") as out:
            out.write(f"{report.longrepr[2].removeprefix('Skipped: ')}: {report.nodeid.replace('::', ' ')}\n")


ZONE_ID = b"zone of the tests"
_ids = itertools.count(0x1000)
#: Of senders of profile tss in cluster mode: those without SSI share their counters with all others.
tss_epochs = itertools.count(20_000)


@pytest.fixture
def group() -> Iterator[eesp.TrustGroup]:
    with eesp.TrustGroup(aead=eesp.Aead.AES_256_GCM) as made:
        made.generate_root_key(eesp.Level.ZONE, ZONE_ID)
        yield made


def new_id() -> int:
    """An ID that no other test sends under."""
    return next(_ids)


@pytest.fixture
def fresh_id() -> int:
    """The same, for a test that needs one."""
    return new_id()


@pytest.fixture
def sender(group: eesp.TrustGroup, fresh_id: int) -> Iterator[eesp.Sender]:
    with eesp.Sender(group, fresh_id, options=True, counter=eesp.Explicit(1, epoch=1)) as made:
        yield made


@pytest.fixture
def receiver(group: eesp.TrustGroup) -> Iterator[eesp.Receiver]:
    with eesp.Receiver(group) as made:
        yield made


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "testdata" / "vectors" / "stateless.json").read_text())
    return loaded


def group_of(vector: dict[str, Any]) -> eesp.TrustGroup:
    """The group of a vector."""
    made = eesp.TrustGroup(
        aead=eesp.Aead[vector["aead"].upper().replace("-", "_")], combiner=eesp.Combiner[vector["combiner"].upper()]
    )
    for level in vector["levels"]:
        made.set_root_key_der(eesp.Level[level["level"].upper()], bytes.fromhex(level["der"]))
    made.set_default_levels(eesp.Levels(sum(eesp.Levels[name.upper()] for name in vector["default_levels"])))
    return made


def addresses_of(vector: dict[str, Any]) -> tuple[bytes, bytes]:
    """The addresses of a vector."""
    src, dst = bytes.fromhex(vector["src_ip"]), bytes.fromhex(vector["dst_ip"])
    return src or bytes(16), dst or bytes(16)
