"""Calls from one layer to another: several replicas, one deadline, and errors by name."""

from collections.abc import Sequence

from pointsman_common.clock import Clock
from pointsman_common.errors import SettingsError
from pointsman_common.rpc_address import checked_address
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

_ROUNDS = 2


class HookChannel:
    """The replicas of one layer behind a comma list of `grpc://host:port` and `unix:///path`.

    A call goes to the replica with the fewest open calls; when that one cannot be reached, or stops
    in the middle, the next is tried, as long as the deadline lasts. Each address is tried twice,
    since a name may stand for several replicas. One that failed to answer is tried last for
    `shun_s` seconds. `key` names the setting that the URL is from.
    """

    def __init__(self, url: str, clock: Clock, *, key: str = "url", shun_s: float = 1.0) -> None:
        """Raises SettingsError when the URL is none."""
        self._clock, self._shun_s = clock, shun_s
        self._replicas = [_Replica(address) for address in parse_addresses(url, key=key)]
        self._turn = 0

    async def call(self, path: str, message: bytes, *, timeout_s: float) -> bytes:
        """Call until a replica answers.

        Raises:
            RpcFailed: UNAVAILABLE when none is reachable, DEADLINE_EXCEEDED, or a replica's error.
        """
        ends_at = self._clock.monotonic() + timeout_s
        failed = RpcFailed(RpcStatus.DEADLINE_EXCEEDED, "no time is left")
        for _ in range(_ROUNDS):
            untried = list(self._replicas)
            while untried:
                left = ends_at - self._clock.monotonic()
                if left <= 0:
                    raise failed
                replica = self._next(untried)
                untried.remove(replica)
                replica.open_calls += 1
                try:
                    return await replica.channel.unary(path, message, timeout_s=left)
                except RpcError as error:
                    failed = RpcFailed(error.status, error.message)
                    if error.status not in _AGAIN:
                        raise failed from error
                    replica.shunned_until = self._clock.monotonic() + self._shun_s
                finally:
                    replica.open_calls -= 1
        raise failed

    async def close(self) -> None:
        for replica in self._replicas:
            await replica.channel.close()

    def _next(self, untried: list["_Replica"]) -> "_Replica":
        now = self._clock.monotonic()
        self._turn += 1
        start = self._turn % len(untried)
        return min(
            untried[start:] + untried[:start],
            key=lambda replica: (replica.shunned_until > now, replica.open_calls),
        )


class _Replica:
    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = Channel(address, max_message_bytes=MAX_MESSAGE_BYTES)
        self.open_calls = 0
        self.shunned_until = float("-inf")


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
