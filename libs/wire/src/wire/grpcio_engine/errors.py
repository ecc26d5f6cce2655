"""What grpcio raises, as this package's errors."""

import asyncio

import grpc
import grpc.aio

from wire.status import RpcError, RpcStatus

OUT_OF_LIFE = (grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)
"""What operations raise on a call, channel or server that is over already."""


def rpc_error_of(error: grpc.aio.AioRpcError) -> RpcError:
    trailers = dict(error.trailing_metadata() or ())
    return RpcError(RpcStatus(error.code().value[0]), error.details() or "", trailers)


def stopped(error: Exception) -> RpcError:
    """For an operation that came too late."""
    return RpcError(RpcStatus.CANCELLED, f"the call is over: {error}")
