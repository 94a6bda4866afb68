# SPDX-License-Identifier: BSD-3-Clause
"""The view of a gateway's metrics."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from eesp.__main__ import main
from eesp.top import fetch, parse, render

TEXT = """# TYPE eesp_gateway_packets counter
# HELP eesp_gateway_packets Packets.
eesp_gateway_packets_total{peer="b",what="sealed"} %d
eesp_gateway_packets_total{peer="b",what="opened"} 7
eesp_gateway_octets_total{peer="b",what="sealed"} %d
eesp_gateway_octets_total{peer="b",what="opened"} 700
eesp_gateway_refused_total{peer="b",address="192.0.2.2",status="-3",reason="replayed or too old packet"} 4
eesp_gateway_strangers_total{address="192.0.2.9"} 5
eesp_gateway_strangers_total{address="others"} 0
eesp_gateway_key_index{group="blue",key="zone",generation="current"} 3
# EOF
"""


def test_rates_and_refusals() -> None:
    lines = list(render(parse(TEXT % (2100, 3_000_000)), parse(TEXT % (100, 500_000)), 2.0))
    assert lines[1].split() == ["b", "1000", "10.0", "0", "0.0", "2100", "7"]
    assert lines[4].split(maxsplit=2) == ["0", "5", "192.0.2.9: no peer has that address"]
    assert lines[5].split(maxsplit=2) == ["0", "4", "b 192.0.2.2: replayed or too old packet"]
    assert lines[-1] == "root keys in use: blue zone 3"


def test_what_is_no_metrics() -> None:
    with pytest.raises(ValueError, match="metrics are incomplete"):
        parse("eesp 1\n")
    with pytest.raises(ValueError, match="not a line of metrics: eesp x"):
        parse("eesp x\n# EOF\n")


def test_over_a_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "m.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def answer() -> None:
            for head in ("HTTP/1.0 200 OK", "HTTP/1.0 200 OK", "HTTP/1.0 404 Not Found"):
                connection = server.accept()[0]
                with connection:
                    assert connection.recv(100).startswith(b"GET /metrics HTTP/1.0\r\n")
                    connection.sendall(f"{head}\r\n\r\n".encode() + (TEXT % (1, 2)).encode())

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert main(["top", "--once", "--interval", "0.01", path]) == 0
        assert "root keys in use: blue zone 3" in capsys.readouterr().out
        with pytest.raises(ValueError, match="404 Not Found"):
            fetch(path)
        thread.join()
    assert main(["top", str(tmp_path / "none")]) == 1
    assert f"eesp: {tmp_path}/none: No such file or directory" in capsys.readouterr().err
    assert main(["top", "99999"]) == 1
    assert "99999 is not a port" in capsys.readouterr().err
