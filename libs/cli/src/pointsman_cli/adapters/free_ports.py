"""Which loopback ports are free, and whether a fixed one is taken."""

import errno
import random
import socket

# Outside the range from which kernels give ports to clients, so that no outgoing connection
# takes one between the choice and the start of its server.
_FIRST, _LAST = 15_000, 32_000


def free_ports(count: int, rng: random.Random | None = None) -> list[int]:
    """Different ports of 127.0.0.1 on which nobody listens at this moment.

    Raises:
        OSError: no more free ports.
    """
    candidates = list(range(_FIRST, _LAST))
    (rng or random.SystemRandom()).shuffle(candidates)
    chosen: list[int] = []
    for port in candidates:
        if len(chosen) == count:
            return chosen
        if not port_is_taken("127.0.0.1", port):
            chosen.append(port)
    raise OSError(errno.EADDRINUSE, f"no {count} free ports between {_FIRST} and {_LAST}")


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
