"""Calls from one layer to another: several replicas, one deadline, and errors by name."""

from collections.abc import Callable, Sequence

from pointsman_common.clock import Clock
from pointsman_common.errors import SettingsError
from pointsman_common.rpc_address import RpcTransport, checked_address
from wire import Channel, RpcError, RpcStatus

MAX_MESSAGE_BYTES = 80 << 20
"""A body of 64 MiB and what goes with it."""


class RpcFailed(Exception):  # noqa: N818  (a report of how a call ended, not a fault of ours)
    """No replica gave an answer: `status` is of the last one tried."""

    def __init__(self, status: RpcStatus, message: str) -> None:
        super().__init__(f"{status.name}: {message}")
        self.status, self.message = status, message


_AGAIN = (RpcStatus.UNAVAILABLE, RpcStatus.CANCELLED)
"""Ends of a call that another replica may do better: it was not reached, or it is stopping."""

_ATTEMPTS = 3


class HookChannel:
    """The replicas of one layer behind a comma list of `grpc://host:port` and `unix:///path`; a
    host's name stands for all its addresses.

    A call goes to the replica with the fewest open calls (see `wire.Channel`). When that one cannot
    be reached, or stops in the middle, the call is made again, twice at most and as long as the
    deadline lasts: elsewhere, for a replica that failed to answer is passed over for a while. `key`
    names the setting that the URL is from. On the hot path: tests/load/bench_edge.py.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        key: str = "url",
        transport: RpcTransport = "wire",
    ) -> None:
        """Raises SettingsError when the URL is none."""
        self._clock = clock
        self._channel = Channel(
            parse_addresses(url, key=key),
            max_message_bytes=MAX_MESSAGE_BYTES,
            transport=transport,
        )

    async def call(
        self, path: str, message: bytes | Callable[[], bytes], *, timeout_s: float
    ) -> bytes:
        """Call until a replica answers. A `message` that is a function is made anew each time.

        Raises:
            RpcFailed: UNAVAILABLE when none is reachable, DEADLINE_EXCEEDED, or a replica's error.
        """
        ends_at = self._clock.monotonic() + timeout_s
        left = _ATTEMPTS
        while True:
            try:
                content = message() if callable(message) else message
                return await self._channel.unary(path, content, timeout_s=timeout_s)
            except RpcError as error:
                left -= 1
                timeout_s = ends_at - self._clock.monotonic()
                if error.status not in _AGAIN or not left or timeout_s <= 0:
                    raise RpcFailed(error.status, error.message) from error

    async def close(self) -> None:
        await self._channel.close()


def parse_addresses(url: str, *, key: str = "url") -> Sequence[str]:
    """The addresses of a comma list of `grpc://host:port` or `unix:///path`, each once.

    Raises:
        SettingsError: another scheme, no port, or nothing; it names `key`.
    """
    addresses: list[str] = []
    for part in (item.strip() for item in url.split(",")):
        if part.startswith("grpc://"):
            address = part.removeprefix("grpc://").rstrip("/")
            addresses.append(checked_address(address, key=key))
        elif part.startswith("unix:///"):
            addresses.append(checked_address(part, key=key))
        else:
            raise SettingsError(key, f"{part!r} is neither grpc://host:port nor unix:///path")
    return list(dict.fromkeys(addresses))
