"""One transport and the connection on it: carries bytes, timers and loss between the two."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import Generic, TypeVar, cast

from wire.asyncio_io.deadlines import Deadlines
from wire.http2.connection import Connection
from wire.http2.errors import ErrorCode
from wire.http2.liveness import Liveness, tick_interval_s

_LINGER_S = 0.5
"""How long a peer may go on sending after our GOAWAY: closing at once would have the kernel throw
away what the peer has not read of it."""

ConnectionT = TypeVar("ConnectionT", bound=Connection)


class ConnectionProtocol(asyncio.Protocol, ABC, Generic[ConnectionT]):
    """Base of both ends; `make_connection` and `on_lost` are theirs."""

    connection: ConnectionT

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.deadlines = Deadlines(self.loop)
        self.lost = self.loop.create_future()
        """Done when the transport is closed."""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False
        self._backlog_bytes = 0

    @abstractmethod
    def make_connection(self, now: float) -> ConnectionT:
        """Begin the connection; `now` is in seconds."""

    def on_lost(self) -> None:
        """The connection is of no further use; its streams have been told."""

    def wake(self) -> None:
        """The connection has output: write it at the end of this turn of the loop, all at once."""
        self.loop.call_soon(self.flush)

    def flush(self) -> None:
        connection, transport = self.connection, self._transport
        if transport is None:
            return
        if connection.output:
            output = connection.take_output()
            if connection.is_paused:
                self._count_backlog(len(output))
            transport.write(output)
            if connection.has_more:
                connection.resume()
        if connection.closing:
            self._end()

    def _count_backlog(self, size: int) -> None:
        """Output although the socket is full: all but DATA, which waits."""
        self._backlog_bytes += size
        if self._backlog_bytes > self.connection.limits.max_output_backlog_bytes:
            self.connection.cut_off("the peer makes us write and does not read")
            if self._transport is not None:
                self._transport.abort()

    # -- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        now = self.loop.time()
        self.connection = self.make_connection(now)
        self._liveness = Liveness(self.connection, now)
        self._tick_s = tick_interval_s(self.connection.limits)
        self._timer = self.loop.call_later(self._tick_s, self._tick)
        self.flush()

    def data_received(self, data: bytes) -> None:
        connection = self.connection
        try:
            connection.receive(data, self.loop.time())
        except Exception as error:
            connection.fail(ErrorCode.INTERNAL_ERROR, "internal error")
            self.loop.call_exception_handler(
                {"message": "wire: a connection failed", "exception": error, "protocol": self}
            )
        if connection.output or connection.closing:
            self.flush()

    def pause_writing(self) -> None:
        self.connection.pause()

    def resume_writing(self) -> None:
        self._backlog_bytes = 0
        if not self.connection.closing:
            self.connection.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.connection.cut_off(str(exc) if exc else "closed by the peer")
        self._end()
        if self._timer is not None:
            self._timer.cancel()
        if not self.lost.done():
            self.lost.set_result(None)

    # -- ends

    def abort(self) -> None:
        """Close without a word."""
        self.connection.cut_off("closed")
        if self._transport is not None:
            self._transport.abort()

    def _tick(self) -> None:
        self._timer = self.loop.call_later(self._tick_s, self._tick)
        self._liveness.tick(self.loop.time())
        if self.connection.closing:
            self.flush()

    def _end(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self.deadlines.close()
        if self._timer is not None:
            self._timer.cancel()
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if self.connection.has_failed and transport.can_write_eof():
                self._timer = self.loop.call_later(_LINGER_S, transport.abort)
                with contextlib.suppress(OSError):  # the peer was faster
                    transport.write_eof()
            else:
                transport.close()
        self.on_lost()
