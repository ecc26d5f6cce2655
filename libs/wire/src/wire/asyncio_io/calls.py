"""Calls as coroutines see them: one answer awaited, or messages both ways."""

import asyncio
from collections.abc import Awaitable, Callable

from wire.asyncio_io.inbox import Drained, Inbox
from wire.grpc.client_stream import ClientStream
from wire.http2.client_connection import ClientConnection
from wire.status import RpcError, RpcStatus


class UnaryCall(ClientStream):
    """`answer` becomes the one message of the answer, or an RpcError."""

    __slots__ = ("_response", "answer")

    def __init__(
        self,
        connection: ClientConnection,
        stream_id: int,
        max_message_bytes: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(connection, stream_id, max_message_bytes)
        self._response: bytes | None = None
        self.answer: asyncio.Future[bytes] = loop.create_future()

    def on_message(self, message: bytes) -> None:
        if self._response is not None:
            self.give_up(RpcStatus.INTERNAL, "more than one message in a unary answer")
        self._response = message

    def on_conclude(self, status: RpcStatus, message: str) -> None:
        if self.answer.done():
            return  # its caller left
        if status is not RpcStatus.OK:
            self.answer.set_exception(RpcError(status, message))
        elif self._response is None:
            self.answer.set_exception(RpcError(RpcStatus.INTERNAL, "an answer without a message"))
        else:
            self.answer.set_result(self._response)


class BidiClientStream(ClientStream):
    """The stream of a `BidiCall`."""

    __slots__ = ("drained", "end", "inbox", "loop")

    def __init__(
        self,
        connection: ClientConnection,
        stream_id: int,
        max_message_bytes: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(connection, stream_id, max_message_bytes)
        self.loop = loop
        self.inbox, self.drained = Inbox(self, loop), Drained()
        self.end: RpcError | None = None
        """How the call ended, where it was not OK."""

    def on_message(self, message: bytes) -> None:
        self.inbox.put(message)

    def on_sent(self) -> None:
        self.drained.wake()

    def on_conclude(self, status: RpcStatus, message: str) -> None:
        if status is not RpcStatus.OK:
            self.end = RpcError(status, message)
        self.inbox.end()
        self.drained.wake()

    def check_open(self) -> None:
        """Raises RpcError when the call has ended with another status than OK."""
        if self.end is not None:
            raise self.end


class WireBidiCall:
    """See `wire.BidiCall`. Opens at once on a connection with room, else with the first await."""

    def __init__(
        self,
        open_now: Callable[[], BidiClientStream | None],
        open_later: Callable[[], Awaitable[BidiClientStream]],
        max_message_bytes: int,
    ) -> None:
        self._open_later, self._max_message_bytes = open_later, max_message_bytes
        self._stream = open_now()
        self._opening = asyncio.Lock()
        self._is_cancelled = False

    async def send(self, message: bytes) -> None:
        if len(message) > self._max_message_bytes:
            raise RpcError(RpcStatus.RESOURCE_EXHAUSTED, "the message is over the limit")
        stream = self._stream or await self._opened()
        stream.check_open()
        stream.send_message(message)
        if stream.queue:
            await stream.drained.wait(stream, stream.loop)
            stream.check_open()

    async def done_writing(self) -> None:
        stream = self._stream or await self._opened()
        stream.finish_sending()

    async def receive(self) -> bytes | None:
        stream = self._stream or await self._opened()
        message = await stream.inbox.take()
        if message is None:
            stream.check_open()
        return message

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._stream is not None:
            self._stream.give_up(RpcStatus.CANCELLED, "cancelled by its caller")

    async def _opened(self) -> BidiClientStream:
        async with self._opening:
            if self._is_cancelled:
                raise RpcError(RpcStatus.CANCELLED, "cancelled by its caller")
            if self._stream is None:
                self._adopt(await self._open_later())
            assert self._stream is not None  # noqa: S101  (for the type checker)
            return self._stream

    def _adopt(self, stream: BidiClientStream) -> None:
        self._stream = stream
        if self._is_cancelled:  # while it waited for a connection
            self.cancel()
