"""`CallbackStream` on an engine that has coroutines only: one task reads, one writes."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

from wire.handlers import BidiStream, CallbackStream
from wire.status import RpcError, RpcStatus


async def serve_callbacks(stream: BidiStream, callbacks: CallbackStream) -> None:
    """Drive `callbacks` until it finishes the call.

    Raises:
        RpcError: the status it finished with, where that is not OK.
    """
    sink = _Sink(stream)
    callbacks.attach(sink)
    try:
        callbacks.on_open()
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(_read(stream, callbacks))
            await _write(stream, callbacks, sink)
            reading.cancel()
    except asyncio.CancelledError:
        callbacks.on_reset()
        raise
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from group_error
    if sink.end is not None and sink.end.status is not RpcStatus.OK:
        raise sink.end


async def _read(stream: BidiStream, callbacks: CallbackStream) -> None:
    while (message := await stream.receive()) is not None:
        callbacks.on_message(message)
    callbacks.on_end()


async def _write(stream: BidiStream, callbacks: CallbackStream, sink: "_Sink") -> None:
    while True:
        while sink.queue:
            await stream.send(sink.queue[0])
            sink.unsent_bytes -= len(sink.queue.popleft())
            if not sink.queue:
                callbacks.on_sent()
        if sink.end is not None:
            return
        sink.news.clear()
        await sink.news.wait()


class _Sink:
    def __init__(self, stream: BidiStream) -> None:
        self._stream = stream
        self.queue: deque[bytes] = deque()
        self.unsent_bytes = 0
        self.end: RpcError | None = None
        self.news = asyncio.Event()

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._stream.metadata

    @property
    def binary_metadata(self) -> Mapping[str, bytes]:
        return self._stream.binary_metadata

    def send_message(self, message: bytes) -> None:
        self.send_messages((message,))

    def send_messages(self, messages: Sequence[bytes]) -> None:
        if self.end is None:
            self.queue.extend(messages)
            self.unsent_bytes += sum(map(len, messages))
            self.news.set()

    def finish(self, status: RpcStatus = RpcStatus.OK, message: str = "") -> None:
        if self.end is None:
            self.end = RpcError(status, message)
            self.news.set()
