"""Asks a part whether it is ready; within a second unless told otherwise."""

import http.client
import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

_TIMEOUT_S = 1.0
# Loopback is never asked through a proxy.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def is_ready(url: str, *, timeout_s: float = _TIMEOUT_S) -> bool:
    """Whether `http://…` answers 200, or `redis://host:port` answers a PING."""
    return not problem_at(url, timeout_s=timeout_s)


def problem_at(url: str, *, timeout_s: float = _TIMEOUT_S) -> str:
    """Why it is not ready, in a few words; empty when it is."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "redis":
            return _ping(parts.hostname or "", parts.port or 6379, timeout_s)
        with _direct.open(url, timeout=timeout_s) as reply:
            return "" if reply.status == 200 else f"answers {reply.status}"
    except urllib.error.HTTPError as error:
        with error:
            said = " ".join(error.read(300).decode(errors="replace").split())
        return f"answers {error.code} {said}".rstrip()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def _ping(host: str, port: int, timeout_s: float) -> str:
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        connection.sendall(b"PING\r\n")
        reply = connection.recv(64)
    return "" if reply.startswith(b"+PONG") else f"answers {reply!r}"
