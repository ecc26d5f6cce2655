"""The calling end of the wire engine: calls, made on the connections of a pool."""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random

from wire.address import Target
from wire.asyncio_io.bidi_calls import MOST_ATTEMPTS, BidiClientStream, WireBidiCall
from wire.asyncio_io.connection_pool import ConnectionPool
from wire.asyncio_io.dialler import ClientProtocol, Dialler
from wire.asyncio_io.subchannel import Subchannel
from wire.asyncio_io.unary_call import UnaryCall
from wire.balancing.backoff import BackoffRules
from wire.balancing.rules import BalancingRules
from wire.grpc.framing import frame_message
from wire.http2.limits import Limits
from wire.resolver import Resolver
from wire.status import RpcError, RpcStatus
from wire.tls import ClientTls


class WireChannel:
    """See `wire.Channel`."""

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        max_message_bytes: int,
        limits: Limits,
        tls: ClientTls | None,
        backoff: BackoffRules,
        rules: BalancingRules,
        resolver: Resolver,
        rng: Random,
    ) -> None:
        dialler = Dialler(limits=limits, tls=tls, connect_timeout_s=rules.connect_timeout_s)
        self._pool = ConnectionPool(
            targets, dialler, rules=rules, backoff=backoff, resolver=resolver, rng=rng
        )
        self._max_message_bytes = max_message_bytes

    @property
    def protocols(self) -> list[ClientProtocol]:
        """All connections: also those whose last calls go on."""
        return self._pool.protocols

    async def unary(
        self,
        path: str,
        message: bytes,
        *,
        timeout_s: float,
        metadata: Mapping[str, str | bytes] | None = None,
    ) -> bytes:
        if len(message) > self._max_message_bytes:
            raise RpcError(RpcStatus.RESOURCE_EXHAUSTED, "the message is over the limit")
        if timeout_s <= 0:
            raise RpcError(RpcStatus.DEADLINE_EXCEEDED, "no time is left for the call")
        loop = asyncio.get_running_loop()
        pool, now = self._pool, loop.time()
        deadline = now + timeout_s
        subchannel = pool.pick(now)
        if subchannel is None:
            subchannel = await pool.wait_for(deadline)
        left = MOST_ATTEMPTS
        while True:
            head = subchannel.heads.encode(path, timeout_s, metadata)
            call = self._start_unary(subchannel, head, message, deadline)
            try:
                answer = await call.answer
            except RpcError as error:
                left -= 1
                if not call.was_refused:
                    pool.ended(subchannel, error.status, loop.time())
                    raise
                if not left:
                    raise
            except asyncio.CancelledError:
                call.give_up(RpcStatus.CANCELLED, "cancelled by its caller")
                raise
            else:
                if pool.is_wary:
                    pool.ended(subchannel, RpcStatus.OK, loop.time())
                return answer
            # Refused: the server has not begun with it, so it may be made again.
            subchannel = await pool.wait_for(deadline, avoid=subchannel)
            timeout_s = deadline - loop.time()

    def bidi(
        self,
        path: str,
        *,
        timeout_s: float | None,
        metadata: Mapping[str, str | bytes] | None,
    ) -> WireBidiCall:
        loop, pool = asyncio.get_running_loop(), self._pool
        deadline = None if timeout_s is None else loop.time() + timeout_s

        def start(subchannel: Subchannel) -> BidiClientStream:
            return self._start_bidi(subchannel, path, deadline, metadata)

        return WireBidiCall(pool, start, deadline, self._max_message_bytes)

    async def close(self) -> None:
        for protocol in self.protocols:
            for stream in [*protocol.connection.streams.values()]:
                if isinstance(stream, (UnaryCall, BidiClientStream)):
                    stream.give_up(RpcStatus.CANCELLED, "the channel was closed")
        await self._pool.close()

    def _start_unary(
        self, subchannel: Subchannel, head: bytes, message: bytes, deadline: float
    ) -> UnaryCall:
        protocol = subchannel.protocol
        assert protocol is not None  # noqa: S101  (picked for having one)
        connection = protocol.connection
        call = UnaryCall(
            connection, connection.next_stream_id(), self._max_message_bytes, protocol.loop
        )
        connection.add(call)
        protocol.deadlines.add(deadline, call)
        connection.send_request(call, head, frame_message(message))
        return call

    def _start_bidi(
        self,
        subchannel: Subchannel,
        path: str,
        deadline: float | None,
        metadata: Mapping[str, str | bytes] | None,
    ) -> BidiClientStream:
        protocol = subchannel.protocol
        assert protocol is not None  # noqa: S101  (picked for having one)
        connection, loop = protocol.connection, protocol.loop

        def ended(status: RpcStatus) -> None:
            self._pool.ended(subchannel, status, loop.time())

        stream = BidiClientStream(
            connection, connection.next_stream_id(), self._max_message_bytes, loop, ended
        )
        connection.add(stream)
        timeout_s = None if deadline is None else deadline - loop.time()
        connection.send_headers(stream, subchannel.heads.encode(path, timeout_s, metadata))
        if deadline is not None:
            protocol.deadlines.add(deadline, stream)
        return stream
