"""Calls of the layers by the URL's scheme: gRPC, or the same hook as JSON over HTTP.

Each layer has a circuit. A failure comes out as LayerUnavailableError (not reachable, or not in
time) or LayerFailedError (it answered with an error).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import httpx
import msgspec
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from pointsman_common.circuit import Circuit
from pointsman_common.clock import Clock
from pointsman_common.contracts import flow_pb2, routing_pb2, scheduling_pb2
from pointsman_common.contracts.layer_pb2 import DescribeRequest, DescribeResponse
from pointsman_common.errors import LayerFailedError, LayerUnavailableError
from pointsman_common.rpc_address import RpcTransport
from pointsman_common.rpc_channel import HookChannel, RpcFailed
from pointsman_common.rpc_server import DESCRIBE
from pointsman_common.structured_log import get_logger
from pointsman_ext_proc.core.admit_retries import AdmitRetries, AgeingAdmit
from pointsman_ext_proc.core.layer_sequence import Call, Hop
from wire import RpcStatus

log = get_logger("layer-clients")

CANDIDATES = "candidates"
"""Capability of a scheduler that wants the ready endpoints in each PickRequest."""

MAX_HTTP_CONNECTIONS = 1_024
DESCRIBE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Hook:
    rpc_path: str
    http_path: str
    reply: type[Message]


HOOKS: Mapping[Hop, Hook] = {
    Hop.ROUTE: Hook("/pointsman.routing.v1.Router/Route", "/v1/route", routing_pb2.RouteResponse),
    Hop.ADMIT: Hook("/pointsman.flow.v1.FlowController/Admit", "/v1/admit", flow_pb2.AdmitResponse),
    Hop.PICK: Hook(
        "/pointsman.scheduling.v1.Scheduler/Pick", "/v1/pick", scheduling_pb2.PickResponse
    ),
}


Question = Callable[[], Message]
"""What to ask, made anew for each replica that is asked."""


class LayerTransport(Protocol):
    async def call(self, hop: Hop, question: Question, *, timeout_s: float) -> Message:
        """Raises LayerUnavailableError or LayerFailedError."""
        ...

    async def describe(self) -> DescribeResponse | None:
        """What the layer says of itself; `None`: it cannot be asked."""
        ...

    async def close(self) -> None: ...


class LayerTimeoutError(LayerUnavailableError):
    """The layer was reached, and did not answer in time."""

    reason = "layer-timeout"


class GrpcTransport:
    def __init__(self, channel: HookChannel) -> None:
        self._channel = channel

    async def call(self, hop: Hop, question: Question, *, timeout_s: float) -> Message:
        hook = HOOKS[hop]
        try:
            raw = await self._channel.call(
                hook.rpc_path, lambda: question().SerializeToString(), timeout_s=timeout_s
            )
            return hook.reply.FromString(raw)
        except RpcFailed as error:
            raise _layer_error(hop, error.status, error.message) from error
        except DecodeError as error:
            raise LayerFailedError(hop.value, f"its answer cannot be read: {error}") from error

    async def describe(self) -> DescribeResponse | None:
        asked = DescribeRequest().SerializeToString()
        try:
            raw = await self._channel.call(DESCRIBE, asked, timeout_s=1.0)
            return DescribeResponse.FromString(raw)
        except (RpcFailed, DecodeError) as error:
            log.debug("describe-failed", error=str(error))
            return None

    async def close(self) -> None:
        await self._channel.close()


class HttpTransport:
    """POST of the message in protobuf's JSON form, with the names as in the .proto files.

    Several URLs are replicas: the next is tried when one cannot be reached.
    """

    def __init__(self, urls: Sequence[str], client: httpx.AsyncClient) -> None:
        self._urls, self._client = [url.rstrip("/") for url in urls], client
        self._turn = 0

    async def call(self, hop: Hop, question: Question, *, timeout_s: float) -> Message:
        hook = HOOKS[hop]
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._post(hop, hook.http_path, question)
        except TimeoutError as error:
            raise LayerTimeoutError(hop.value, f"no answer within {timeout_s:.3g} s") from error
        if response.status_code != 200:
            kind = (
                LayerUnavailableError
                if response.status_code in (502, 503, 504)
                else LayerFailedError
            )
            raise kind(hop.value, f"HTTP status {response.status_code}")
        try:
            return json_format.ParseDict(
                msgspec.json.decode(response.content, type=dict[str, Any]),
                hook.reply(),
                ignore_unknown_fields=True,
            )
        except (msgspec.DecodeError, json_format.ParseError) as error:
            raise LayerFailedError(hop.value, f"its answer cannot be read: {error}") from error

    async def describe(self) -> DescribeResponse | None:
        # Written in a few lines and without the bus: it has no other way to know the endpoints.
        return DescribeResponse(capabilities=[CANDIDATES])

    async def close(self) -> None:
        await self._client.aclose()

    async def _post(self, hop: Hop, path: str, question: Question) -> httpx.Response:
        last: Exception | None = None
        for _ in self._urls:
            url = self._urls[self._turn % len(self._urls)]
            self._turn += 1
            body = msgspec.json.encode(
                json_format.MessageToDict(question(), preserving_proto_field_name=True)
            )
            try:
                return await self._client.post(
                    url + path, content=body, headers={"content-type": "application/json"}
                )
            except httpx.HTTPError as error:
                last = error
        raise LayerUnavailableError(hop.value, str(last) or type(last).__name__) from last


class LayerClients:
    """Carries out the calls of a LayerSequence. `on_hop` sees each call's layer, seconds and
    outcome: ok, unavailable, timeout, error, circuit-open or cancelled.

    A request that found a layer away counts once for its circuit, whether it gave up or its caller
    went while it was asking again.
    """

    def __init__(
        self,
        transports: Mapping[Hop, LayerTransport],
        clock: Clock,
        *,
        circuit_failures: int,
        circuit_open_s: float,
        admit_retry_s: float,
        rng: Random,
        admit_fails_open: bool = False,
        on_hop: Callable[[Hop, float, str], None] = lambda *_: None,
    ) -> None:
        self._transports, self._clock, self._rng = transports, clock, rng
        self._admit_retry_s, self._admit_fails_open = admit_retry_s, admit_fails_open
        self._on_hop = on_hop
        self.circuits = {
            hop: Circuit(failures=circuit_failures, open_s=circuit_open_s) for hop in Hop
        }

    async def call(self, call: Call) -> Message:
        """Raises LayerUnavailableError or LayerFailedError."""
        hop, circuit = call.hop, self.circuits[call.hop]
        started_at = self._clock.monotonic()
        if not circuit.allows(started_at):
            self._on_hop(hop, 0.0, "circuit-open")
            raise LayerUnavailableError(hop.value, "it kept failing and is not asked for a while")
        question = self._question(call, started_at)
        retries: AdmitRetries | None = None
        outcome = "cancelled"
        try:
            try:
                reply = await self._transports[hop].call(hop, question, timeout_s=call.timeout_s)
            except LayerUnavailableError as error:
                if hop is not Hop.ADMIT:
                    raise
                retries = self._admit_retries()
                reply = await self._admit_again(call, question, started_at, retries, error)
            outcome = "ok"
            circuit.succeeded()
            return reply
        except LayerFailedError:
            outcome = "error"
            circuit.succeeded()  # it is there and answers: the next request may fare better
            raise
        except LayerTimeoutError:
            outcome = "timeout"
            raise
        except LayerUnavailableError:
            outcome = "unavailable"
            raise
        finally:
            now = self._clock.monotonic()
            if outcome == "cancelled" and retries is not None and retries.failed:
                outcome = "unavailable"
            if outcome in ("timeout", "unavailable"):
                circuit.failed(now)
            elif outcome == "cancelled":
                circuit.abandoned()
            self._on_hop(hop, now - started_at, outcome)

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.close()

    def _question(self, call: Call, now: float) -> Question:
        message = call.message
        if not isinstance(message, flow_pb2.AdmitRequest):
            return lambda: message
        ageing, clock = AgeingAdmit(message, now), self._clock
        return lambda: ageing.at(clock.monotonic())

    def _admit_retries(self) -> AdmitRetries:
        return AdmitRetries(
            retry_s=self._admit_retry_s, fails_open=self._admit_fails_open, rng=self._rng
        )

    async def _admit_again(
        self,
        call: Call,
        question: Question,
        asked_at: float,
        retries: AdmitRetries,
        failure: LayerUnavailableError,
    ) -> Message:
        """Ask for the same again and again, as long as `retries` says, after this `failure`."""
        transport = self._transports[call.hop]
        ends_at = asked_at + call.timeout_s
        while True:
            now = self._clock.monotonic()
            delay_s = None
            if not isinstance(failure, LayerTimeoutError):
                delay_s = retries.delay_s(asked_at=asked_at, now=now, ends_at=ends_at)
            if delay_s is None:
                raise failure
            await self._clock.sleep(delay_s)
            asked_at = self._clock.monotonic()
            try:
                return await transport.call(
                    call.hop, question, timeout_s=max(0.001, ends_at - asked_at)
                )
            except LayerUnavailableError as error:
                failure = error


class CapabilityWatch:
    """A part of a service: knows what a layer says that it can, as soon as it says it."""

    def __init__(self, transport: LayerTransport, clock: Clock) -> None:
        self._transport, self._clock = transport, clock
        self._capabilities: frozenset[str] = frozenset()

    def has(self, capability: str) -> bool:
        return capability in self._capabilities

    async def run(self) -> None:
        while True:
            description = await self._transport.describe()
            if description is not None:
                self._capabilities = frozenset(description.capabilities)
            await self._clock.sleep(DESCRIBE_EVERY_S)


def transport_for(
    url: str, clock: Clock, *, key: str, rpc_transport: RpcTransport = "wire"
) -> LayerTransport:
    """A layer's transport by its URL; `key` names the setting.

    Raises:
        SettingsError: another scheme, or schemes mixed.
    """
    parts = [part.strip() for part in url.split(",")]
    if all(part.startswith(("http://", "https://")) for part in parts):
        limits = httpx.Limits(
            max_connections=MAX_HTTP_CONNECTIONS, max_keepalive_connections=MAX_HTTP_CONNECTIONS
        )
        # The deadline is the hop's; a proxy of the environment has no place between layers.
        client = httpx.AsyncClient(timeout=None, limits=limits, trust_env=False)  # noqa: S113
        return HttpTransport(parts, client)
    return GrpcTransport(HookChannel(url, clock, key=key, transport=rpc_transport))


def _layer_error(
    hop: Hop, status: RpcStatus, message: str
) -> LayerUnavailableError | LayerFailedError:
    if status is RpcStatus.UNAVAILABLE:
        return LayerUnavailableError(hop.value, message or "no replica answers")
    if status is RpcStatus.DEADLINE_EXCEEDED:
        return LayerTimeoutError(hop.value, "no answer in time")
    return LayerFailedError(hop.value, f"{status.name} {message}".strip())
