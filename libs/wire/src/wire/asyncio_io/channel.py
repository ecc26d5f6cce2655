"""The calling end of the wire engine: one address, one connection, made on use and made again.

    idle --call--> dialling --greeted--> connected --GOAWAY or loss--> idle
                       |--failed--> waiting (calls fail at once) --backoff over--> idle

A connection that says GOAWAY is left at once and its calls end on it; the next call dials anew.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from random import Random

from wire.address import parse_address
from wire.asyncio_io.backoff import Backoff, BackoffRules
from wire.asyncio_io.calls import BidiClientStream, UnaryCall, WireBidiCall
from wire.asyncio_io.dialler import ClientProtocol, Dialler
from wire.grpc.framing import frame_message
from wire.grpc.heads import encode_metadata, encode_request_head
from wire.grpc.timeouts import encode_timeout, round_timeout
from wire.http2.client_connection import ClientConnection
from wire.http2.header_encoding import encode_fields
from wire.http2.limits import Limits
from wire.status import RpcError, RpcStatus
from wire.tls import ClientTls

_HEADS_KEPT = 1024


class WireChannel:
    """See `wire.Channel`."""

    def __init__(
        self,
        address: str,
        *,
        max_message_bytes: int,
        limits: Limits,
        tls: ClientTls | None,
        backoff: BackoffRules,
        rng: Random,
    ) -> None:
        self._dialler = Dialler(parse_address(address), limits, tls)
        self._max_message_bytes = max_message_bytes
        self._backoff = Backoff(backoff, rng)
        self._protocol: ClientProtocol | None = None
        self._left: set[ClientProtocol] = set()
        self._dialling: asyncio.Task[None] | None = None
        self._failure: RpcError | None = None
        self._dial_again_at = 0.0
        self._room_waiters: deque[asyncio.Future[None]] = deque()
        self._heads: dict[tuple[str, tuple[int, bytes] | None], bytes] = {}
        self._is_closed = False

    async def unary(
        self,
        path: str,
        message: bytes,
        *,
        timeout_s: float,
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        if len(message) > self._max_message_bytes:
            raise RpcError(RpcStatus.RESOURCE_EXHAUSTED, "the message is over the limit")
        if timeout_s <= 0:
            raise RpcError(RpcStatus.DEADLINE_EXCEEDED, "no time is left for the call")
        deadline = asyncio.get_running_loop().time() + timeout_s
        protocol = self._protocol
        if protocol is None or not protocol.connection.has_room:
            protocol = await self._protocol_with_room(deadline)
        head = self._head(path, timeout_s, metadata)
        call = self._start_unary(protocol, head, message, deadline)
        try:
            return await call.answer
        except RpcError:
            if not call.was_refused:
                raise
        except asyncio.CancelledError:
            call.give_up(RpcStatus.CANCELLED, "cancelled by its caller")
            raise
        # The server has not begun with it: once more, perhaps on another connection.
        protocol = await self._protocol_with_room(deadline)
        head = self._head(path, deadline - protocol.loop.time(), metadata)
        again = self._start_unary(protocol, head, message, deadline)
        try:
            return await again.answer
        except asyncio.CancelledError:
            again.give_up(RpcStatus.CANCELLED, "cancelled by its caller")
            raise

    def bidi(
        self, path: str, *, timeout_s: float | None, metadata: Mapping[str, str] | None
    ) -> WireBidiCall:
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s

        def open_now() -> BidiClientStream | None:
            protocol = self._protocol
            if protocol is None or not protocol.connection.has_room:
                return None
            return self._open_bidi(protocol, path, deadline, metadata)

        async def open_later() -> BidiClientStream:
            protocol = await self._protocol_with_room(deadline)
            return self._open_bidi(protocol, path, deadline, metadata)

        return WireBidiCall(open_now, open_later, self._max_message_bytes)

    async def close(self) -> None:
        self._is_closed = True
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        protocols = [*self._left, *([] if self._protocol is None else [self._protocol])]
        self._protocol = None
        for protocol in protocols:
            for stream in [*protocol.connection.streams.values()]:
                if isinstance(stream, (UnaryCall, BidiClientStream)):
                    stream.give_up(RpcStatus.CANCELLED, "the channel was closed")
            protocol.connection.drain()
            protocol.flush()
        self._wake_waiters()
        if protocols:
            await asyncio.wait([protocol.lost for protocol in protocols], timeout=1.0)

    # -- calls

    def _start_unary(
        self, protocol: ClientProtocol, head: bytes, message: bytes, deadline: float
    ) -> UnaryCall:
        connection, stream_id = protocol.connection, protocol.connection.next_stream_id()
        call = UnaryCall(connection, stream_id, self._max_message_bytes, protocol.loop)
        connection.add(call)
        protocol.deadlines.add(deadline, call)
        connection.send_request(call, head, frame_message(message))
        return call

    def _open_bidi(
        self,
        protocol: ClientProtocol,
        path: str,
        deadline: float | None,
        metadata: Mapping[str, str] | None,
    ) -> BidiClientStream:
        connection: ClientConnection = protocol.connection
        loop = protocol.loop
        stream = BidiClientStream(
            connection, connection.next_stream_id(), self._max_message_bytes, loop
        )
        connection.add(stream)
        timeout_s = None if deadline is None else max(deadline - loop.time(), 0.0)
        connection.send_headers(stream, self._head(path, timeout_s, metadata))
        if deadline is not None:
            protocol.deadlines.add(deadline, stream)
        return stream

    def _head(
        self, path: str, timeout_s: float | None, metadata: Mapping[str, str] | None
    ) -> bytes:
        """The header block of a call; all but the metadata comes from a table."""
        timeout = None if timeout_s is None else round_timeout(max(timeout_s, 0.0))
        head = self._heads.get((path, timeout))
        if head is None:
            dialler = self._dialler
            head = encode_request_head(
                path=path, authority=dialler.authority, scheme=dialler.scheme
            )
            if timeout is not None:
                head += encode_fields([(b"grpc-timeout", encode_timeout(*timeout))])
            if len(self._heads) >= _HEADS_KEPT:
                self._heads.clear()
            self._heads[path, timeout] = head
        return head + encode_metadata(metadata) if metadata else head

    # -- the connection

    async def _protocol_with_room(self, deadline: float | None) -> ClientProtocol:
        """Raises RpcError: UNAVAILABLE, or DEADLINE_EXCEEDED while waiting."""
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    if self._is_closed:
                        raise RpcError(RpcStatus.CANCELLED, "the channel is closed")
                    protocol = self._protocol
                    if protocol is None:
                        await self._dial()
                    elif protocol.connection.has_room:
                        return protocol
                    else:
                        await self._wait_for_room(protocol)
        except TimeoutError as error:
            message = "no connection, or no room on it, within the deadline"
            raise RpcError(RpcStatus.DEADLINE_EXCEEDED, message) from error

    async def _dial(self) -> None:
        """Have one task dial for all that wait."""
        loop = asyncio.get_running_loop()
        if self._dialling is None:
            if self._failure is not None and loop.time() < self._dial_again_at:
                raise RpcError(self._failure.status, self._failure.message)
            self._dialling = loop.create_task(self._make_connection())
        await asyncio.wait([self._dialling])
        if self._protocol is None and not self._is_closed:
            failure = self._failure or RpcError(RpcStatus.UNAVAILABLE, "left by the server at once")
            raise RpcError(failure.status, failure.message)

    async def _make_connection(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._protocol = await self._dialler.dial(self._on_change)
            self._failure = None
            self._backoff.reset()
            self._on_change()
        except Exception as error:
            known = error if isinstance(error, RpcError) else None
            self._failure = known or RpcError(RpcStatus.UNAVAILABLE, repr(error))
            self._dial_again_at = loop.time() + self._backoff.next_wait_s()
        finally:
            self._dialling = None

    async def _wait_for_room(self, protocol: ClientProtocol) -> None:
        waiter = protocol.loop.create_future()
        self._room_waiters.append(waiter)
        protocol.connection.wants_room = True
        try:
            await waiter
        finally:
            if waiter in self._room_waiters:
                self._room_waiters.remove(waiter)

    def _on_change(self) -> None:
        """The connection has room, or takes no further calls."""
        protocol = self._protocol
        if protocol is not None and not protocol.connection.is_usable:
            self._leave(protocol)
        self._wake_waiters()

    def _leave(self, protocol: ClientProtocol) -> None:
        self._protocol = None
        self._left.add(protocol)
        protocol.lost.add_done_callback(lambda _: self._left.discard(protocol))

    def _wake_waiters(self) -> None:
        """As many as there is room for; all of them when there is no connection."""
        protocol = self._protocol
        room = len(self._room_waiters)
        if protocol is not None:
            connection = protocol.connection
            room = connection.peer.max_concurrent_streams - len(connection.streams)
        while self._room_waiters and room > 0:
            waiter = self._room_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                room -= 1
        if protocol is not None:
            protocol.connection.wants_room = bool(self._room_waiters)
