# SPDX-License-Identifier: BSD-3-Clause
"""Threads, forks, the end of the interpreter, and which library is loaded."""

import gc
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import eesp
from eesp import _abi
from eesp.packets import run_burst

GROUP = """
    import eesp, os, sys, threading
    group = eesp.TrustGroup()
    group.generate_root_key(eesp.Level.ZONE, b"zone of the tests")
    sender, receiver = eesp.Sender(group, 1), eesp.Receiver(group)
"""


def run(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Another interpreter. A hang is a failure."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(GROUP) + textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def good(result: "subprocess.CompletedProcess[str]") -> str:
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


def test_threads_share_objects(group: eesp.TrustGroup, receiver: eesp.Receiver, fresh_id: int) -> None:
    """Counters are given out once, with several threads and while root keys rotate."""
    used: list[int] = []
    failures: list[object] = []
    with eesp.Sender(group, fresh_id, options=True, counter=eesp.Explicit(0, epoch=1)) as sender:

        def work(n: int) -> None:
            for i in range(30):
                payloads = [bytes([n, i, k]) * k for k in range(40)]
                opened = receiver.open(sender.seal(payloads))
                if [bytes(p) for p in opened] != payloads:
                    failures.append((n, i, opened.failures()))
                used.extend(opened.tscs)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        group.rotate(eesp.Level.ZONE, 3)
        for thread in threads:
            thread.join()
    assert not failures
    assert sorted(used) == [1 << 48 | i for i in range(4 * 30 * 40)]


def test_the_gil_is_released(sender: eesp.Sender) -> None:
    """While a long burst runs, another thread goes on: the call lets it in, whatever the switch interval."""
    packets = eesp.Packets.join([bytes(eesp.MAX_LEN)] * 64)
    out = bytearray(sender.sealed_size(packets))
    started, done, went_on = threading.Event(), threading.Event(), []

    def watch() -> None:
        started.set()
        while not done.is_set():
            went_on.append(time.perf_counter_ns())
            time.sleep(0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # no thread is interrupted: it has to let go by itself
    thread = threading.Thread(target=watch)
    try:
        thread.start()
        started.wait()
        start = time.perf_counter_ns()
        holds = run_burst(0, lambda *_: 0, packets, out=packets).good  # without the library
        between = time.perf_counter_ns()
        hangs = time.monotonic() + 600  # a busy machine may take a while to wake the other thread
        while time.monotonic() < hangs:
            result = sender.seal_into(packets, out)
            end = time.perf_counter_ns()
            if any(between < t < end for t in list(went_on)):
                break
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
    assert result.ok and holds == 0
    assert any(between < t < end for t in went_on)
    assert not any(start < t < between for t in went_on)


def test_close_while_a_burst_runs(group: eesp.TrustGroup, fresh_id: int) -> None:
    for i in range(20):
        sender = eesp.Sender(group, fresh_id)
        packets = eesp.Packets.join([bytes(100_000)] * 8)
        outcome: list[object] = []

        def work() -> None:
            try:
                while True:
                    outcome.append(sender.seal(packets).ok)
            except ValueError as error:
                outcome.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        while not outcome and thread.is_alive():
            time.sleep(0)
        sender.close()
        thread.join()
        assert set(outcome[:-1]) == {True} and outcome[-1] == "this Sender is closed"
        gc.collect()


def test_fork() -> None:
    """Every use in the child is a ForkedError; it ends, and the parent goes on."""
    out = good(
        run(
            """
            packet = sender.seal_one(b"x")
            pid = os.fork()
            if pid == 0:
                for use in (
                    lambda: sender.seal_one(b"x"),
                    lambda: receiver.open_one(packet),
                    lambda: sender.seal([b"x"]).raise_for_status(),
                    lambda: group.derive_keys([eesp.Context(1, 1)]),
                    lambda: eesp.TrustGroup(),
                    lambda: eesp.self_test(),
                    lambda: sender.header_len,
                    lambda: sender.next_tsc,
                    lambda: eesp.backend(),
                    lambda: eesp.backends(),
                ):
                    try:
                        use()
                        print("no error")
                    except eesp.ForkedError as error:
                        print(error.status.name, "spawn" in str(error))
                group.close()
                sender.close()
                sys.exit(0)  # with all that an interpreter does at its end
            print("child", os.waitpid(pid, 0)[1], flush=True)
            print(receiver.open_one(packet).payload)
            """
        )
    )
    assert out.splitlines() == ["FORKED True"] * 10 + ["child 0", "b'x'"]


def test_multiprocessing(tmp_path: Path) -> None:
    """With "spawn", children load the library again; with "fork", they raise an error."""
    code = """
        import eesp, multiprocessing

        def work(n):
            try:
                with eesp.TrustGroup() as group:
                    group.generate_root_key(eesp.Level.ZONE, b"zone of the tests")
                    with eesp.Sender(group, n) as sender, eesp.Receiver(group) as receiver:
                        return receiver.open_one(sender.seal_one(b"x")).id
            except eesp.ForkedError as error:
                return error

        if __name__ == "__main__":
            eesp.TrustGroup().close()
            for way in ("spawn", "fork"):
                with multiprocessing.get_context(way).Pool(2) as pool:
                    print(way, [repr(r)[:11] for r in pool.map(work, [1, 2])])
    """
    script = tmp_path / "work.py"
    script.write_text(textwrap.dedent(code))
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=600)
    assert good(result).splitlines() == ["spawn ['1', '2']", "fork ['ForkedError', 'ForkedError']"]


@pytest.mark.parametrize("daemon", [True, False])
def test_interpreter_exit(daemon: bool) -> None:
    """Objects in use by threads, in cycles, and in globals: the process ends without an error."""
    out = good(
        run(
            f"""
            cycle = [sender]
            cycle.append(cycle)
            sys.keep = receiver
            packets = eesp.Packets.join([bytes(50_000)] * 64)
            running = threading.Event()
            def work():
                for i in range({1_000_000 if daemon else 5}):
                    sender.seal(packets)
                    running.set()
            threading.Thread(target=work, daemon={daemon}).start()
            running.wait()
            print("end")
            """
        )
    )
    assert out == "end\n"


def test_uncaught_error_ends_the_process() -> None:
    result = run("receiver.open_one(b'junk' * 20)")
    assert result.returncode == 1 and "eesp.errors." in result.stderr and "Fatal" not in result.stderr


def test_another_library(tmp_path: Path) -> None:
    copy = tmp_path / "copy.so"
    path = eesp.library_path()
    copy.write_bytes(Path(path).read_bytes())
    assert good(run("print(eesp.library_path())", EESP_LIBRARY=str(copy))) == f"{copy}\n"


def test_libraries_that_do_not_fit(tmp_path: Path) -> None:
    for make, message in (
        (None, "cannot load libeesp .*EESP_LIBRARY"),
        ("", "is not libeesp .*eesp_version"),
        ("unsigned eesp_version(void) { return 0x02000000; }", r"is libeesp 2\.0\.0; eesp 1\.0\.0 needs libeesp 1\.0 "),
        ("unsigned eesp_version(void) { return 0x00090500; }", r"is libeesp 0\.9\.5; "),
        ("unsigned eesp_version(void) { return 0x01000000; }", "is not libeesp 1.0.0: .*undefined symbol: eesp_"),
    ):
        library = tmp_path / "other.so"
        if make is None:
            library.write_bytes(b"not a library")
        else:
            (tmp_path / "other.c").write_text(make)
            subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "other.c"], check=True)
        result = run("", EESP_LIBRARY=str(library))
        assert result.returncode == 1
        last = result.stderr.splitlines()[-1]
        assert re.match(r"ImportError: .*" + message, last), last


def test_versions() -> None:
    _abi.check_version(0x01000000, "x")
    _abi.check_version(0x01070300, "a later one")
    for wrong in (0x00FFFF00, 0x02000000):
        with pytest.raises(ImportError):
            _abi.check_version(wrong, "x")


def test_backend_of_the_environment() -> None:
    assert good(run("print(eesp.backend())", EESP_BACKEND="generic")) == "generic\n"
    result = run("", EESP_BACKEND="nonsense")
    assert "eesp.errors.BackendError" in result.stderr
