"""The calling end, on the engine of choice: one or several addresses, connected on first use and
kept connected."""

from collections.abc import Coroutine, Mapping, Sequence
from random import Random
from types import TracebackType
from typing import Any, Protocol, Self

from wire.address import parse_targets
from wire.asyncio_io.channel import WireChannel
from wire.balancing.backoff import BackoffRules
from wire.balancing.rules import BalancingRules
from wire.grpcio_engine.channel import GrpcioChannel
from wire.http2.limits import Limits
from wire.resolver import Resolver, SystemResolver
from wire.tls import ClientTls
from wire.transport import DEFAULT_TRANSPORT, Transport, check_transport


class BidiCall(Protocol):
    """One bidirectional call, seen by its caller."""

    async def send(self, message: bytes) -> None:
        """Send one message; waits while the server's flow-control window is full.

        Raises:
            RpcError: the call has ended.
        """

    async def done_writing(self) -> None:
        """Tell the server that no further message follows."""

    async def receive(self) -> bytes | None:
        """Return the next message, or `None` when the server has ended the call with OK.

        Raises:
            RpcError: the call ended with another status.
        """

    def cancel(self) -> None: ...


class Channel:
    """Calls to the servers at one or more addresses.

    An address is `host:port` or `unix:///path`; several are a sequence or a comma list. A host
    that is a name stands for all its addresses, IPv4 and IPv6, and is asked for again every few
    seconds. Each address has a connection (see `BalancingRules`), and each call goes to the one
    with the fewest open calls; those whose calls end with UNAVAILABLE are passed over for a while.

    A call waits for connections that are being made, within its deadline, and fails with
    UNAVAILABLE at once when no address takes connections. It is made again, on another connection
    if there is one, when a server refuses it without having begun with it; never else.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        max_message_bytes: int = 4 << 20,
        tls: ClientTls | None = None,
        transport: Transport = DEFAULT_TRANSPORT,
        limits: Limits | None = None,
        balancing: BalancingRules | None = None,
        backoff: BackoffRules | None = None,
        resolver: Resolver | None = None,
        rng: Random | None = None,
    ) -> None:
        """`backoff` is between dials of an address that takes no connection; it and `limits` are
        of the wire engine. `rng` makes the jitter.

        Raises:
            ValueError: an address is none, or there is no such transport.
        """
        check_transport(transport)
        targets = parse_targets(addresses)
        rules, rng = balancing or BalancingRules(), rng or Random()
        resolver = resolver or SystemResolver()
        self._engine: WireChannel | GrpcioChannel
        if transport == "wire":
            self._engine = WireChannel(
                targets,
                max_message_bytes=max_message_bytes,
                limits=limits or Limits(),
                tls=tls,
                backoff=backoff or BackoffRules(),
                rules=rules,
                resolver=resolver,
                rng=rng,
            )
        else:
            self._engine = GrpcioChannel(
                targets,
                max_message_bytes=max_message_bytes,
                tls=tls,
                rules=rules,
                resolver=resolver,
                rng=rng,
            )

    def unary(
        self,
        path: str,
        message: bytes,
        *,
        timeout_s: float,
        metadata: Mapping[str, str | bytes] | None = None,
    ) -> Coroutine[Any, Any, bytes]:
        """Call once. Cancelling the awaiting task cancels the call at the server.

        Raises:
            RpcError: any other end than OK; DEADLINE_EXCEEDED after `timeout_s` seconds.
        """
        return self._engine.unary(path, message, timeout_s=timeout_s, metadata=metadata)

    def bidi(
        self,
        path: str,
        *,
        timeout_s: float | None = None,
        metadata: Mapping[str, str | bytes] | None = None,
    ) -> BidiCall:
        """Open a bidirectional call; `timeout_s` bounds all of it."""
        return self._engine.bidi(path, timeout_s=timeout_s, metadata=metadata)

    async def close(self) -> None:
        """Cancel what is open and close the connections."""
        await self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
