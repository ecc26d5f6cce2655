"""Runs handlers on streams: plain functions, coroutines and callbacks. On the hot path:
`benchmarks/bench_hop.py`.

A plain function is answered while its request is read, without a task. A coroutine has a task,
which is cancelled when the call ends before it; the cancellation waits for its turn behind what was
delivered already, so that a handler sees END_STREAM although RST_STREAM came in the same read, as
Envoy sends them at the end of each stream.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from wire.asyncio_io.inbox import Drained, Inbox
from wire.grpc.heads import RequestHead
from wire.grpc.server_stream import ServerStream
from wire.handlers import (
    BidiHandler,
    CallbackStream,
    CallContext,
    ContextUnaryHandler,
    UnaryHandler,
)
from wire.http2.errors import ErrorCode
from wire.http2.server_connection import ServerConnection
from wire.status import RpcError, RpcStatus


class HandlerContext:
    """What the streams of one server share."""

    __slots__ = ("loop", "max_message_bytes", "on_error", "tasks")

    def __init__(
        self, *, max_message_bytes: int, on_error: Callable[[str, Exception], None] | None
    ) -> None:
        self.max_message_bytes, self.on_error = max_message_bytes, on_error
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()


class HandlerStream(ServerStream):
    """What all kinds have in common: errors become statuses, and a task goes with its call."""

    __slots__ = ("_context", "_task")

    def __init__(
        self,
        connection: ServerConnection,
        stream_id: int,
        head: RequestHead,
        context: HandlerContext,
    ) -> None:
        super().__init__(connection, stream_id, head, context.max_message_bytes)
        self._context = context
        self._task: asyncio.Task[None] | None = None

    def expire(self) -> None:
        self.abort(RpcStatus.DEADLINE_EXCEEDED, "the deadline of the call is over")

    def on_reset(self, code: ErrorCode | None) -> None:
        if self._task is not None:
            # Cancelled before its first step, a coroutine has no last one to leave the set.
            self._task.add_done_callback(self._context.tasks.discard)
            self._context.loop.call_soon(self._task.cancel)

    def _start(self, run: Coroutine[Any, Any, None]) -> None:
        self._task = self._context.loop.create_task(run)
        self._context.tasks.add(self._task)

    def _leave_tasks(self) -> None:
        """The last step of what `_start` ran."""
        if self._task is not None:
            self._context.tasks.discard(self._task)

    def _fail(self, error: Exception) -> None:
        """End the call for what its handler raised."""
        if isinstance(error, RpcError):
            try:
                self.finish(error.status, error.message, error.trailers)
                return
            except ValueError as fault:  # trailers that cannot be sent
                error = fault
        self.finish(RpcStatus.UNKNOWN, type(error).__name__)
        if self._context.on_error is not None:
            self._context.on_error(self.head.path, error)


class RefusedStream(HandlerStream):
    """A call that nobody serves."""

    __slots__ = ()

    def on_open(self) -> None:
        head = self.head
        if head.http_refusal is not None:
            self.refuse_http(head.http_refusal)
        elif head.refusal is not None:
            self.finish(head.refusal.status, head.refusal.message)
        else:
            self.finish(RpcStatus.UNIMPLEMENTED, f"{head.path} is not served here")


class UnaryStream(HandlerStream):
    __slots__ = ("_handler", "_request")

    def __init__(
        self,
        handler: UnaryHandler,
        connection: ServerConnection,
        stream_id: int,
        head: RequestHead,
        context: HandlerContext,
    ) -> None:
        super().__init__(connection, stream_id, head, context)
        self._handler = handler
        self._request: bytes | None = None

    def on_message(self, message: bytes) -> None:
        if self._request is not None:
            self.finish(RpcStatus.INTERNAL, "a unary call has one message")
        self._request = message

    def on_end(self) -> None:
        request = self._request
        if request is None:
            self.finish(RpcStatus.INTERNAL, "a unary call has one message")
            return
        try:
            reply = self._handler(request)
            if isinstance(reply, bytes):
                self.reply(reply)
            elif inspect.isawaitable(reply):
                self._start(self._run(reply))
            else:
                raise TypeError(f"handler of {self.head.path} answered {type(reply).__name__}")
        except Exception as error:
            self._fail(error)

    async def _run(self, reply: Awaitable[bytes]) -> None:
        try:
            self.reply(await reply)
        except Exception as error:
            self._fail(error)
        finally:
            self._leave_tasks()


class ContextUnaryStream(UnaryStream):
    """A unary call whose handler takes its `wire.CallContext`."""

    __slots__ = ()

    def __init__(
        self,
        handler: ContextUnaryHandler,
        connection: ServerConnection,
        stream_id: int,
        head: RequestHead,
        context: HandlerContext,
    ) -> None:
        call = CallContext(
            metadata=head.metadata, binary_metadata=head.binary_metadata, timeout_s=head.timeout_s
        )
        super().__init__(
            lambda message: handler(message, call), connection, stream_id, head, context
        )


class CoroutineStream(HandlerStream):
    """A bidirectional call as a coroutine sees it (`wire.BidiStream`)."""

    __slots__ = ("_drained", "_handler", "_inbox")

    def __init__(
        self,
        handler: BidiHandler,
        connection: ServerConnection,
        stream_id: int,
        head: RequestHead,
        context: HandlerContext,
    ) -> None:
        super().__init__(connection, stream_id, head, context)
        self._handler = handler
        self._inbox, self._drained = Inbox(self, context.loop), Drained()

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.head.metadata

    @property
    def binary_metadata(self) -> Mapping[str, bytes]:
        return self.head.binary_metadata

    async def receive(self) -> bytes | None:
        return await self._inbox.take()

    async def send(self, message: bytes) -> None:
        self.send_message(message)
        if self.queue:
            await self._drained.wait(self, self._context.loop)

    async def send_many(self, messages: Sequence[bytes]) -> None:
        self.send_messages(messages)
        if self.queue:
            await self._drained.wait(self, self._context.loop)

    def on_open(self) -> None:
        self._start(self._run())

    def on_message(self, message: bytes) -> None:
        self._inbox.put(message)

    def on_end(self) -> None:
        self._inbox.end()

    def on_sent(self) -> None:
        self._drained.wake()

    def on_reset(self, code: ErrorCode | None) -> None:
        self._drained.wake()
        super().on_reset(code)

    async def _run(self) -> None:
        try:
            await self._handler(self)
            self.finish()
        except Exception as error:
            self._fail(error)
        finally:
            self._leave_tasks()


class CallbackHandlerStream(HandlerStream):
    """A bidirectional call that drives a `wire.CallbackStream`; no task, no inbox."""

    __slots__ = ("_callbacks", "_factory")

    def __init__(
        self,
        factory: Callable[[], CallbackStream],
        connection: ServerConnection,
        stream_id: int,
        head: RequestHead,
        context: HandlerContext,
    ) -> None:
        super().__init__(connection, stream_id, head, context)
        self._factory = factory
        self._callbacks = CallbackStream()  # until it is open, and if it never is
        self._callbacks.attach(self)

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.head.metadata

    @property
    def binary_metadata(self) -> Mapping[str, bytes]:
        return self.head.binary_metadata

    @property
    def unsent_bytes(self) -> int:
        return len(self.queue) if self.queue else 0

    def on_open(self) -> None:
        self._guard(self._open)

    def on_message(self, message: bytes) -> None:
        if self.is_ended:
            return
        try:
            self._callbacks.on_message(message)
        except Exception as error:
            self._fail(error)

    def on_end(self) -> None:
        self._guard(self._callbacks.on_end)

    def on_sent(self) -> None:
        self._guard(self._callbacks.on_sent)

    def on_reset(self, code: ErrorCode | None) -> None:
        self._guard(self._callbacks.on_reset)

    def _open(self) -> None:
        callbacks = self._factory()
        callbacks.attach(self)
        self._callbacks = callbacks
        callbacks.on_open()

    def _guard(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:
            self._fail(error)
