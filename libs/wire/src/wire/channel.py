"""The calling end: one address, a connection made on first use and made again when lost."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from wire.address import grpcio_target
from wire.status import RpcError, RpcStatus
from wire.tls import ClientTls


class BidiCall:
    """One bidirectional call, seen by its caller."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, message: bytes) -> None:
        """Send one message.

        Raises:
            RpcError: the call has ended.
        """
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from error

    async def done_writing(self) -> None:
        """Tell the server that no further message follows."""
        await self._call.done_writing()

    async def receive(self) -> bytes | None:
        """Return the next message, or `None` when the server has ended the call with OK.

        Raises:
            RpcError: the call ended with another status.
        """
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from error
        if not isinstance(message, bytes):  # grpcio's end-of-stream mark
            code = await self._call.code()
            if code is not grpc.StatusCode.OK:
                raise RpcError(RpcStatus(code.value[0]), await self._call.details() or "")
            return None
        return message

    def cancel(self) -> None:
        self._call.cancel()


class Channel:
    """Calls to one address (`host:port` or `unix:///path`)."""

    def __init__(
        self, address: str, *, max_message_bytes: int = 4 << 20, tls: ClientTls | None = None
    ) -> None:
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.lb_policy_name", "round_robin"),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        target = grpcio_target(address)
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, options=options)
        else:
            if tls.server_name is not None:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            credentials = grpc.ssl_channel_credentials(
                tls.server_ca, tls.private_key, tls.certificate
            )
            self._channel = grpc.aio.secure_channel(target, credentials, options=options)
        self._methods: dict[str, Any] = {}

    async def unary(self, path: str, message: bytes, *, timeout_s: float) -> bytes:
        """Call once. Cancelling the awaiting task cancels the call at the server.

        Raises:
            RpcError: any other end than OK; DEADLINE_EXCEEDED after `timeout_s` seconds.
        """
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(path)
        try:
            return bytes(await method(message, timeout=timeout_s))
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from error

    def bidi(
        self,
        path: str,
        *,
        timeout_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> BidiCall:
        """Open a bidirectional call; `timeout_s` bounds all of it."""
        pairs = tuple((metadata or {}).items())
        return BidiCall(self._channel.stream_stream(path)(timeout=timeout_s, metadata=pairs))

    async def close(self) -> None:
        """Cancel what is open and close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _rpc_error(error: grpc.aio.AioRpcError) -> RpcError:
    return RpcError(RpcStatus(error.code().value[0]), error.details() or "")
