"""What stands around the edge in bench_edge.py: layers that say yes at once, a gateway that asks.

    python tests/load/edge_peers.py layers|bare TRANSPORT ADDRESS

`layers` serves the three hooks and the pool. `bare` is an edge without layers, leases, events and
metrics: it reads and answers ext_proc messages and does nothing else, so what it costs is the price
of the transport.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence

import uvloop
from bench_exchange import CannedTransport
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from pointsman_common.contracts.pool_pb2 import GetSnapshotResponse, PoolState
from pointsman_common.testing.builders import a_pool_config, a_snapshot, an_endpoint
from pointsman_ext_proc.adapters.envoy_messages import PROCESS
from pointsman_ext_proc.adapters.layer_clients import HOOKS
from wire import BidiStream, CallbackStream, Channel, Server, Transport

ENDPOINTS = 8


def _bare_reply(raw: bytes) -> bytes:
    asked = pb.ProcessingRequest.FromString(raw)
    answer = pb.ProcessingResponse()
    kind = asked.WhichOneof("request")
    if kind == "response_body":
        piece = answer.response_body.response.body_mutation.streamed_response
        piece.body, piece.end_of_stream = (
            asked.response_body.body,
            asked.response_body.end_of_stream,
        )
    elif kind == "request_body":
        piece = answer.request_body.response.body_mutation.streamed_response
        piece.body, piece.end_of_stream = asked.request_body.body, asked.request_body.end_of_stream
    elif kind == "response_headers":
        answer.response_headers.SetInParent()
    else:
        mutation = answer.request_headers.response.header_mutation
        option = mutation.set_headers.add()
        option.header.key = "x-gateway-destination-endpoint"
        option.header.raw_value = b"10.0.0.1:8000"
    encoded: bytes = answer.SerializeToString()
    return encoded


class _BareStream(CallbackStream):
    def on_message(self, message: bytes) -> None:
        self.send(_bare_reply(message))


async def _bare(stream: BidiStream) -> None:
    while (message := await stream.receive()) is not None:
        await stream.send(_bare_reply(message))


def _answer(raw: bytes) -> Callable[[bytes], bytes]:
    return lambda _: raw


async def serve(kind: str, transport: Transport, address: str) -> None:
    server = Server(transport=transport, max_message_bytes=64 << 20)
    if kind == "layers":
        for hop, raw in CannedTransport().replies.items():
            server.unary(HOOKS[hop].rpc_path, _answer(raw))
        endpoints = [an_endpoint(index) for index in range(1, ENDPOINTS + 1)]
        state = PoolState(config=a_pool_config(), snapshot=a_snapshot(endpoints))
        known = GetSnapshotResponse(pools=[state]).SerializeToString()
        server.unary("/pointsman.pool.v1.Pool/GetSnapshot", lambda _: known)
    elif transport == "wire":
        server.bidi_callbacks(PROCESS, _BareStream)
    else:
        # As one would write it on grpc.aio: there, a coroutine costs less than our callbacks.
        server.bidi(PROCESS, _bare)
    await server.listen(address)
    await asyncio.Event().wait()


class LoadGateway:
    """Sends whole exchanges to one edge, a number of them at a time."""

    def __init__(self, address: str) -> None:
        self._channel = Channel(address, transport="wire", max_message_bytes=64 << 20)

    async def exchange(self, messages: Sequence[bytes]) -> None:
        """Request headers and body, then each message of the answer behind the reply to the last:
        one reply to each. Ends by a reset, as Envoy ends its streams."""
        call = self._channel.bidi(PROCESS, timeout_s=30.0)
        await call.send(messages[0])
        await call.send(messages[1])
        await call.receive()
        await call.receive()
        for message in messages[2:]:
            await call.send(message)
            await call.receive()
        call.cancel()

    async def load(
        self, messages: Sequence[bytes], *, concurrency: int, exchanges: int
    ) -> tuple[float, list[float]]:
        """Returns the seconds that it took, and those of each exchange, sorted."""
        taken: list[float] = []

        async def work(count: int) -> None:
            for _ in range(count):
                begun = time.perf_counter()
                await self.exchange(messages)
                taken.append(time.perf_counter() - begun)

        begun = time.perf_counter()
        await asyncio.gather(*(work(max(1, exchanges // concurrency)) for _ in range(concurrency)))
        return time.perf_counter() - begun, sorted(taken)

    async def close(self) -> None:
        await self._channel.close()


if __name__ == "__main__":
    role, engine, at = sys.argv[1:]
    uvloop.run(serve(role, "wire" if engine == "wire" else "grpcio", at))
