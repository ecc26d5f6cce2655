"""gRPC between processes on asyncio, with messages as bytes.

Knows nothing of what the messages mean: a path such as `/package.Service/Method` and bytes in,
bytes out. `Server` takes unary and bidirectional handlers, `Channel` calls them. Two engines carry
the calls and understand each other: `wire`, an HTTP/2 of our own, and `grpcio`.
"""

from wire.address import TcpAddress
from wire.balancing.backoff import BackoffRules
from wire.balancing.rules import BalancingRules
from wire.channel import BidiCall, Channel
from wire.handlers import BidiStream, CallbackStream, CallContext
from wire.health import HealthService, ServingStatus
from wire.http2.limits import Limits
from wire.resolver import Resolver, SystemResolver
from wire.server import Server
from wire.status import RpcError, RpcStatus
from wire.tls import ClientTls, ServerTls
from wire.transport import Transport

__all__ = [
    "BackoffRules",
    "BalancingRules",
    "BidiCall",
    "BidiStream",
    "CallContext",
    "CallbackStream",
    "Channel",
    "ClientTls",
    "HealthService",
    "Limits",
    "Resolver",
    "RpcError",
    "RpcStatus",
    "Server",
    "ServerTls",
    "ServingStatus",
    "SystemResolver",
    "TcpAddress",
    "Transport",
]
