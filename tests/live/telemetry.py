#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Asks DPDK's telemetry, as dpdk-telemetry.py does, and prints the answer as JSON: telemetry.py SOCKET COMMAND"""

import json
import socket
import sys

with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
    link.settimeout(10)
    link.connect(sys.argv[1])
    size = json.loads(link.recv(1024))["max_output_len"]
    link.send(sys.argv[2].encode())
    answer = json.loads(link.recv(size))
    # An answer is under its command's name, without parameters.
    print(json.dumps(answer[sys.argv[2].partition(",")[0]], sort_keys=True))
