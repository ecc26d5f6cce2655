"""Calls of messages both ways, as coroutines see them."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from wire.asyncio_io.inbox import Drained, Inbox
from wire.asyncio_io.subchannel import Subchannel
from wire.grpc.client_stream import ClientStream
from wire.http2.client_connection import ClientConnection
from wire.status import RpcError, RpcStatus

MOST_ATTEMPTS = 3
"""Of one call, as long as servers refuse it without having begun with it (RFC 9113 section 8.7)."""

_REMEMBERED_BYTES = 1 << 20
"""What may have been sent of a call that is made again; a call that sent more is not."""


class BidiClientStream(ClientStream):
    """The stream of a `BidiCall`."""

    __slots__ = ("drained", "end", "inbox", "loop", "on_ended")

    def __init__(
        self,
        connection: ClientConnection,
        stream_id: int,
        max_message_bytes: int,
        loop: asyncio.AbstractEventLoop,
        on_ended: Callable[[RpcStatus], None],
    ) -> None:
        """`on_ended` hears how the call ended, unless it was refused."""
        super().__init__(connection, stream_id, max_message_bytes)
        self.loop, self.on_ended = loop, on_ended
        self.inbox, self.drained = Inbox(self, loop), Drained()
        self.end: RpcError | None = None
        """How the call ended, where it was not OK."""

    def on_message(self, message: bytes) -> None:
        self.inbox.put(message)

    def on_sent(self) -> None:
        self.drained.wake()

    def on_conclude(self, status: RpcStatus, message: str) -> None:
        if status is not RpcStatus.OK:
            self.end = RpcError(status, message, self.trailers)
        if not self.was_refused:
            self.on_ended(status)
        self.inbox.end()
        self.drained.wake()

    def check_open(self) -> None:
        """Raises RpcError when the call has ended with another status than OK."""
        if self.end is not None:
            raise self.end


class Lines(Protocol):
    """Where calls find a connection: `ConnectionPool`."""

    def pick(self, now: float) -> Subchannel | None: ...

    async def wait_for(
        self, deadline: float | None, *, avoid: Subchannel | None = None
    ) -> Subchannel: ...


class WireBidiCall:
    """See `wire.BidiCall`. Opens at once on a connection with room, else with the first await.

    A call that is refused before the server has begun with it is made again, with all that was
    sent of it.
    """

    def __init__(
        self,
        lines: Lines,
        start: Callable[[Subchannel], BidiClientStream],
        deadline: float | None,
        max_message_bytes: int,
    ) -> None:
        self._lines, self._start, self._deadline = lines, start, deadline
        self._max_message_bytes = max_message_bytes
        self._opening = asyncio.Lock()
        self._is_cancelled = self._is_done_writing = False
        self._attempts, self._sent, self._sent_bytes = 0, list[bytes](), 0
        self._subchannel = lines.pick(asyncio.get_running_loop().time())
        self._stream: BidiClientStream | None = None
        if self._subchannel is not None:
            self._open(self._subchannel)

    async def send(self, message: bytes) -> None:
        if len(message) > self._max_message_bytes:
            raise RpcError(RpcStatus.RESOURCE_EXHAUSTED, "the message is over the limit")
        stream = self._stream
        if stream is None or stream.end is not None:
            stream = await self._usable()
        self._remember(stream, message)
        stream.send_message(message)
        if stream.queue:
            await stream.drained.wait(stream, stream.loop)
            if stream.end is not None:
                await self._usable()  # which has sent the message again, or raises

    async def done_writing(self) -> None:
        stream = self._stream or await self._usable()
        self._is_done_writing = True
        stream.finish_sending()

    async def receive(self) -> bytes | None:
        stream = self._stream or await self._usable()
        while True:
            message = await stream.inbox.take()
            if message is not None or stream.end is None:
                return message
            stream = await self._usable()

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._stream is not None:
            self._stream.give_up(RpcStatus.CANCELLED, "cancelled by its caller")

    async def _usable(self) -> BidiClientStream:
        """The stream, opened where it was not, and again where it was refused.

        Raises:
            RpcError: the call has ended, or there is no connection.
        """
        async with self._opening:
            while True:
                if self._is_cancelled and self._stream is None:
                    raise RpcError(RpcStatus.CANCELLED, "cancelled by its caller")
                stream = self._stream
                if stream is not None:
                    if stream.end is None:
                        return stream
                    if not self._may_be_made_again(stream):
                        raise stream.end
                self._open(await self._lines.wait_for(self._deadline, avoid=self._subchannel))

    def _open(self, subchannel: Subchannel) -> None:
        self._subchannel = subchannel
        self._attempts += 1
        stream = self._stream = self._start(subchannel)
        for message in self._sent:
            stream.send_message(message)
        if self._is_done_writing:
            stream.finish_sending()
        if self._is_cancelled:  # while it waited for a connection
            self.cancel()

    def _may_be_made_again(self, stream: BidiClientStream) -> bool:
        is_remembered = self._sent_bytes <= _REMEMBERED_BYTES
        return stream.was_refused and is_remembered and self._attempts < MOST_ATTEMPTS

    def _remember(self, stream: BidiClientStream, message: bytes) -> None:
        if stream.is_answered or self._sent_bytes > _REMEMBERED_BYTES:
            self._sent.clear()
            return
        self._sent_bytes += len(message)
        self._sent.append(message)
