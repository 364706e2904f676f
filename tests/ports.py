"""Ports for servers that a test starts, and may have to start again where they were."""

from __future__ import annotations

import random
import socket

# Below what Linux and macOS hand out to connections: while such a server is down, nobody else comes by its port.
PORTS = range(20000, 32768)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, another one for each process of a test run."""
    while True:
        # Not the `random` of a test: each worker has that with one seed.
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
