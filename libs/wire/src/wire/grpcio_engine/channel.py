"""The calling end of the grpcio engine."""

from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

from wire.address import grpcio_target
from wire.status import RpcError, RpcStatus
from wire.tls import ClientTls


class GrpcioBidiCall:
    """See `wire.BidiCall`."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, message: bytes) -> None:
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from error

    async def done_writing(self) -> None:
        await self._call.done_writing()

    async def receive(self) -> bytes | None:
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


class GrpcioChannel:
    """See `wire.Channel`."""

    def __init__(self, address: str, *, max_message_bytes: int, tls: ClientTls | None) -> None:
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", 50),
            # The shortest time that an attempt is given, not the pause between two.
            ("grpc.min_reconnect_backoff_ms", 1_000),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            # Replicas behind a DNS name that were replaced are found at once, not after 30 s.
            ("grpc.dns_min_time_between_resolutions_ms", 500),
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

    async def unary(
        self,
        path: str,
        message: bytes,
        *,
        timeout_s: float,
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(path)
        pairs = tuple((metadata or {}).items())
        try:
            return bytes(await method(message, timeout=timeout_s, metadata=pairs))
        except grpc.aio.AioRpcError as error:
            raise _rpc_error(error) from error

    def bidi(
        self, path: str, *, timeout_s: float | None, metadata: Mapping[str, str] | None
    ) -> GrpcioBidiCall:
        pairs = tuple((metadata or {}).items())
        return GrpcioBidiCall(self._channel.stream_stream(path)(timeout=timeout_s, metadata=pairs))

    async def close(self) -> None:
        await self._channel.close()


def _rpc_error(error: grpc.aio.AioRpcError) -> RpcError:
    return RpcError(RpcStatus(error.code().value[0]), error.details() or "")
