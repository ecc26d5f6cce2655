"""A call of one message each way, as a coroutine sees it."""

import asyncio

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
            self.answer.set_exception(RpcError(status, message, self.trailers))
        elif self._response is None:
            self.answer.set_exception(RpcError(RpcStatus.INTERNAL, "an answer without a message"))
        else:
            self.answer.set_result(self._response)
