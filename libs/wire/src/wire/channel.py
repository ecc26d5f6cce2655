"""The calling end: one address, on the engine of choice; a connection is made on use and made
again when lost."""

from collections.abc import Coroutine, Mapping
from random import Random
from types import TracebackType
from typing import Any, Protocol, Self

from wire.asyncio_io.backoff import BackoffRules
from wire.asyncio_io.channel import WireChannel
from wire.grpcio_engine.channel import GrpcioChannel
from wire.http2.limits import Limits
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
    """Calls to one address (`host:port` or `unix:///path`)."""

    def __init__(
        self,
        address: str,
        *,
        max_message_bytes: int = 4 << 20,
        tls: ClientTls | None = None,
        transport: Transport = DEFAULT_TRANSPORT,
        limits: Limits | None = None,
        backoff: BackoffRules | None = None,
        rng: Random | None = None,
    ) -> None:
        """`limits`, `backoff` and `rng` (its jitter) are of the wire engine.

        Raises:
            ValueError: the address is none, or there is no such transport.
        """
        check_transport(transport)
        self._engine: WireChannel | GrpcioChannel
        if transport == "wire":
            self._engine = WireChannel(
                address,
                max_message_bytes=max_message_bytes,
                limits=limits or Limits(),
                tls=tls,
                backoff=backoff or BackoffRules(),
                rng=rng or Random(),
            )
        else:
            self._engine = GrpcioChannel(address, max_message_bytes=max_message_bytes, tls=tls)

    def unary(
        self,
        path: str,
        message: bytes,
        *,
        timeout_s: float,
        metadata: Mapping[str, str] | None = None,
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
        metadata: Mapping[str, str] | None = None,
    ) -> BidiCall:
        """Open a bidirectional call; `timeout_s` bounds all of it."""
        return self._engine.bidi(path, timeout_s=timeout_s, metadata=metadata)

    async def close(self) -> None:
        """Cancel what is open and close the connection."""
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
