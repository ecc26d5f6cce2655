"""What one request costs the edge: `python tests/load/bench_exchange.py [--json] [--profile]`.

CPU time of a whole exchange, as the least of several runs, in microseconds: Envoy's messages in as
bytes, replies out as bytes, the layers' messages encoded and decoded, events told and metrics
counted; without transport. `chunk` is one chunk of the answer more.
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import sys
from collections.abc import Sequence
from random import Random
from time import process_time
from typing import Any, cast

from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from google.protobuf.message import Message

from pointsman_common.clock import SystemClock
from pointsman_common.contracts import flow_pb2, routing_pb2, scheduling_pb2
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import POOL, a_descriptor, a_snapshot, an_endpoint
from pointsman_ext_proc.adapters.exchange_stream import EdgeParts, ExchangeStream
from pointsman_ext_proc.adapters.layer_clients import HOOKS, LayerClients, Question
from pointsman_ext_proc.adapters.lease_book import LeaseBook
from pointsman_ext_proc.adapters.request_event_publisher import RequestEventPublisher
from pointsman_ext_proc.app import exchange_rules, lease_rules, sequence_rules
from pointsman_ext_proc.core.endpoint_directory import EndpointDirectory
from pointsman_ext_proc.core.last_resort import LastResort
from pointsman_ext_proc.core.layer_sequence import Hop, Shared
from pointsman_ext_proc.core.logged_end import LoggedEnd
from pointsman_ext_proc.metrics import Metrics
from pointsman_ext_proc.settings import ExtProcSettings

BODY = json.dumps({"model": "llama", "stream": True, "prompt": "x" * 540}).encode()
HEADERS = {
    ":method": "POST",
    ":path": "/v1/completions",
    ":authority": "gateway",
    ":scheme": "http",
    "content-type": "application/json",
    "content-length": str(len(BODY)),
    "authorization": "Bearer x",
    "user-agent": "OpenAI/Python",
    "accept": "application/json",
    "x-request-id": "0b2c7c1e-5b7f-4c0e-9d43-0f1d3c2b1a00",
    "x-llm-d-inference-fairness-id": "tenant-1",
    "x-forwarded-proto": "http",
}
CHUNK = b'data: {"choices":[{"text":"word"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":135,"completion_tokens":8}}\n\n'
GATHERED = 20
"""Requests whose events go into one bus message."""

FULL_DUPLEX, STREAMED = 4, 1


class NoBus:
    connected, dropped = True, 0

    def publish(self, subject: str, payload: bytes) -> None:
        """Nobody listens."""

    def on_reconnect(self, callback: object) -> None:
        """It is never away."""


class CannedTransport:
    """A layer at no distance: its messages are encoded and decoded all the same."""

    def __init__(self) -> None:
        descriptor = a_descriptor(block_hashes=range(1, 9))
        descriptor.stream = True
        endpoints = [
            scheduling_pb2.PickedEndpoint(uid=f"e{index}", address=f"10.0.0.{index}:8000")
            for index in (1, 2, 3)
        ]
        self.replies = {
            Hop.ROUTE: routing_pb2.RouteResponse(
                routed=routing_pb2.Routed(descriptor=descriptor, wants_usage=True)
            ).SerializeToString(),
            Hop.ADMIT: flow_pb2.AdmitResponse(
                admitted=flow_pb2.Admitted(), outcome=flow_pb2.OUTCOME_DISPATCHED
            ).SerializeToString(),
            Hop.PICK: scheduling_pb2.PickResponse(
                picked=scheduling_pb2.Picked(
                    endpoints=endpoints, decision_id="0b2c-77", prefill_tokens=100
                )
            ).SerializeToString(),
        }

    async def call(self, hop: Hop, question: Question, *, timeout_s: float) -> Message:
        del timeout_s
        question().SerializeToString()
        return HOOKS[hop].reply.FromString(self.replies[hop])

    async def describe(self) -> None:
        return None

    async def close(self) -> None:
        """Nothing is open."""


class NoGateway:
    """The gateway's end of a stream: takes what is sent."""

    unsent_bytes = 0

    def send_message(self, message: bytes) -> None:
        """Gone at once."""

    def send_messages(self, messages: Sequence[bytes]) -> None:
        """Gone at once."""

    def finish(self, status: object = None, message: str = "") -> None:
        """The stream is over."""


def messages(mode: int, chunks: int) -> list[bytes]:
    headers = pb.ProcessingRequest()
    headers.protocol_config.request_body_mode = FULL_DUPLEX
    headers.protocol_config.response_body_mode = mode
    for key, value in HEADERS.items():
        headers.request_headers.headers.headers.add(key=key, raw_value=value.encode())
    body = pb.ProcessingRequest()
    body.request_body.body, body.request_body.end_of_stream = BODY, True
    answer = pb.ProcessingRequest()
    for key, value in {":status": "200", "content-type": "text/event-stream"}.items():
        answer.response_headers.headers.headers.add(key=key, raw_value=value.encode())
    pieces = [*(CHUNK for _ in range(chunks)), USAGE]
    found = [headers, body, answer]
    for index, piece in enumerate(pieces):
        message = pb.ProcessingRequest()
        message.response_body.body = piece
        message.response_body.end_of_stream = index == len(pieces) - 1
        found.append(message)
    return [message.SerializeToString() for message in found]


class Edge:
    def __init__(self, settings: ExtProcSettings) -> None:
        clock, bus, metrics = SystemClock(), NoBus(), Metrics()
        view = PoolView(max_age_s=10.0)
        view.apply_snapshot(
            a_snapshot([an_endpoint(index) for index in range(1, 9)]), clock.monotonic()
        )
        stamp, directory = EnvelopeStamp("ext-proc/bench/1", clock), EndpointDirectory(view, POOL)
        some_bus: Any = bus
        self.publisher = RequestEventPublisher(
            some_bus, clock, stamp, pool=POOL, gather_s=settings.gather_events_s
        )
        self.leases = LeaseBook(
            some_bus,
            clock,
            stamp,
            self.publisher,
            directory,
            rules=lease_rules(settings),
            on_opened=metrics.lease_opened,
            on_ended=metrics.lease_ended,
        )
        transport = CannedTransport()
        self.parts = EdgeParts(
            clock=clock,
            layers=LayerClients(
                dict.fromkeys(Hop, transport),
                clock,
                circuit_failures=5,
                circuit_open_s=1.0,
                admit_retry_s=2.0,
                rng=Random(1),
                on_hop=metrics.hop,
            ),
            shared=Shared(
                sequence_rules(settings), directory, LastResort(), wants_candidates=lambda: False
            ),
            leases=self.leases,
            rules=exchange_rules(settings),
            error_format="openai",
        )

    async def exchange(self, sent: list[bytes]) -> None:
        stream, gateway = ExchangeStream(self.parts, lambda: None), cast(Any, NoGateway())
        stream.attach(gateway)
        stream.on_open()
        for message in sent:
            stream.on_message(message)
            while self.parts.tasks:  # noqa: ASYNC110  (it is a turn of the loop or two)
                await asyncio.sleep(0)
        stream.on_end()
        for lease_id in tuple(self.leases._open):  # left to the access log
            self.leases.ended_in_access_log(LoggedEnd(lease_id, 200, duration_s=0.5))

    async def exchanges(self, sent: list[bytes], count: int) -> None:
        for number in range(count):
            await self.exchange(sent)
            if number % GATHERED == 0:
                self.publisher.flush()


def microseconds(edge: Edge, sent: list[bytes], *, count: int, repeat: int) -> float:
    runs: list[float] = []
    for _ in range(repeat):
        began = process_time()
        asyncio.run(edge.exchanges(sent, count))
        runs.append(process_time() - began)
    return round(min(runs) / count * 1e6, 1)


def measure(*, count: int, repeat: int) -> dict[str, float]:
    streams = Edge(ExtProcSettings(pool=POOL))
    logged = Edge(ExtProcSettings(pool=POOL, completion_signal="access-log"))
    few = microseconds(streams, messages(FULL_DUPLEX, 1), count=count, repeat=repeat)
    many = microseconds(streams, messages(FULL_DUPLEX, 33), count=count, repeat=repeat)
    return {
        "full_duplex_us": few,
        "chunk_us": round((many - few) / 32, 2),
        "access_log_us": microseconds(logged, messages(STREAMED, 1), count=count, repeat=repeat),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=7)
    given = parser.parse_args()
    if given.profile:
        edge, sent = Edge(ExtProcSettings(pool=POOL)), messages(FULL_DUPLEX, 1)
        profile = cProfile.Profile()
        profile.runcall(asyncio.run, edge.exchanges(sent, given.count))
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    found = measure(count=given.count, repeat=given.repeat)
    if given.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    for name, value in found.items():
        sys.stdout.write(f"{name:16} {value:g}\n")


if __name__ == "__main__":
    main()
