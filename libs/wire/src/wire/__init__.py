"""gRPC between processes on asyncio, with messages as bytes.

Knows nothing of what the messages mean: a path such as `/package.Service/Method` and bytes in,
bytes out. `Server` takes unary and bidirectional handlers, `Channel` calls them. Two engines carry
the calls and understand each other: `wire`, an HTTP/2 of our own, and `grpcio`.
"""

from wire.asyncio_io.backoff import BackoffRules
from wire.channel import BidiCall, Channel
from wire.handlers import BidiStream, CallbackStream
from wire.http2.limits import Limits
from wire.server import Server
from wire.status import RpcError, RpcStatus
from wire.tls import ClientTls, ServerTls
from wire.transport import Transport

__all__ = [
    "BackoffRules",
    "BidiCall",
    "BidiStream",
    "CallbackStream",
    "Channel",
    "ClientTls",
    "Limits",
    "RpcError",
    "RpcStatus",
    "Server",
    "ServerTls",
    "Transport",
]
