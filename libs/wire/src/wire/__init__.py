"""gRPC between processes on asyncio, with messages as bytes.

Knows nothing of what the messages mean: a path such as `/package.Service/Method` and bytes in,
bytes out. `Server` takes unary and bidirectional handlers, `Channel` calls them. The engine below
is grpcio's asyncio API; whoever uses this package does not see it.
"""

from wire.channel import Channel
from wire.server import BidiStream, Server
from wire.status import RpcError, RpcStatus
from wire.tls import ClientTls, ServerTls

__all__ = ["BidiStream", "Channel", "ClientTls", "RpcError", "RpcStatus", "Server", "ServerTls"]
