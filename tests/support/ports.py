"""Free loopback ports, outside the range from which the kernel gives ports to clients."""

import os
import random
import socket

_FIRST, _LAST = 15_000, 32_000
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on and that this process has not given before."""
    picker = random.Random(os.getpid() * 1_000_003 + len(_given))
    for _ in range(2_000):
        port = picker.randrange(_FIRST, _LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port found")
