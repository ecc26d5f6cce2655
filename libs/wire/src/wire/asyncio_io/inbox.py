"""Messages of one stream that wait for the coroutine that reads them."""

import asyncio
from collections import deque

from wire.grpc.framing import PREFIX_BYTES
from wire.http2.stream import Stream


class Inbox:
    """Its content counts against the stream's window: a reader that stops, stops the sender."""

    __slots__ = ("_loop", "_messages", "_stream", "_waiter", "is_ended")

    def __init__(self, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        self._stream, self._loop = stream, loop
        self._messages: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.is_ended = False

    def put(self, message: bytes) -> None:
        size = len(message) + PREFIX_BYTES
        self._messages.append(message)
        self._stream.unread += size
        self._stream.connection.hold(self._stream, size)
        self._wake()

    def end(self) -> None:
        """Nothing more comes; what is here can still be taken."""
        self.is_ended = True
        self._wake()

    async def take(self) -> bytes | None:
        """The next message; `None` after the last."""
        while not self._messages:
            if self.is_ended:
                return None
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message = self._messages.popleft()
        size = len(message) + PREFIX_BYTES
        stream = self._stream
        stream.unread -= size
        stream.connection.hold(stream, -size)
        stream.connection.replenish(stream)
        return message

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Drained:
    """Lets coroutines wait until the queue of their stream is sent, or the stream over."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        if stream.queue and not stream.closed:
            waiter = loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
