"""Which loopback ports are free, and whether a fixed one is taken."""

import errno
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

# Outside the range from which kernels give ports to clients, so that no outgoing connection
# takes one between the choice and the start of its server.
_FIRST, _LAST = 15_000, 32_000

_claims: dict[int, int] = {}
"""Open lock files by port: held as long as this process lives."""


def free_ports(count: int, rng: random.Random | None = None) -> list[int]:
    """Different ports of 127.0.0.1 on which nobody listens, claimed for this process.

    Between the choice of a port and the start of its server another stack might choose it too: so a
    port is claimed by a lock on a file, which ends with the process.

    Raises:
        OSError: no more free ports.
    """
    candidates = list(range(_FIRST, _LAST))
    (rng or random.SystemRandom()).shuffle(candidates)
    chosen: list[int] = []
    for port in candidates:
        if len(chosen) == count:
            return chosen
        if not port_is_taken("127.0.0.1", port) and _claim(port):
            chosen.append(port)
    raise OSError(errno.EADDRINUSE, f"no {count} free ports between {_FIRST} and {_LAST}")


def _claim(port: int) -> bool:
    if port in _claims:
        return False
    folder = Path(tempfile.gettempdir()) / f"pointsman-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    _claims[port] = lock
    return True


def port_is_taken(host: str, port: int) -> bool:
    """Whether a server could not listen there now."""
    with socket.socket() as probe:
        # As servers do: connections of a server that has just ended are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False
