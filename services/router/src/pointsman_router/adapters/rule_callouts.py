"""Asks what rules want to know, over HTTP and gRPC: bounded in time, number and size.

Each rule has so many callouts at a time, a timeout for one request, and a circuit that leaves a
service alone for a while once it has failed a few times in a row.
"""

import asyncio
from collections import OrderedDict
from typing import TypeVar

import aiohttp

from pointsman_common.circuit import Circuit
from pointsman_common.clock import Clock
from pointsman_common.rpc_address import RpcTransport
from pointsman_common.rpc_channel import HookChannel, RpcFailed
from pointsman_common.structured_log import get_logger
from pointsman_router.core.request_router import RoutingDecision, RoutingSteps
from pointsman_router.core.rules.callout import (
    CalloutReply,
    HttpCallout,
    RpcCallout,
    RuleFailedError,
)
from pointsman_router.core.rules.rule import Refusal
from pointsman_router.core.rules.rule_chain import ConfiguredRule, RuleCall
from pointsman_router.metrics import Metrics
from wire import RpcStatus

log = get_logger("rule-callouts")

MAX_GATES = 10_000
_CHUNK_BYTES = 65_536
T = TypeVar("T")


class _Gate:
    """What is known of one rule's callouts."""

    def __init__(self, rule: ConfiguredRule, circuit: Circuit) -> None:
        self.rule, self.circuit = rule, circuit
        self.open_callouts = 0


class RuleCallouts:
    """A part of the service: its connections live as long as it runs."""

    def __init__(
        self,
        clock: Clock,
        metrics: Metrics,
        *,
        budget_s: float,
        circuit_failures: int,
        circuit_open_s: float,
        transport: RpcTransport = "wire",
    ) -> None:
        """`budget_s` bounds all callouts of one request together."""
        self._clock, self._metrics, self._budget_s = clock, metrics, budget_s
        self._circuit_failures, self._circuit_open_s = circuit_failures, circuit_open_s
        self._transport: RpcTransport = transport
        self._gates: OrderedDict[str, _Gate] = OrderedDict()
        self._channels: OrderedDict[str, HookChannel] = OrderedDict()
        self._session: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        while self._channels:
            await self._channels.popitem()[1].close()

    async def drive(self, steps: RoutingSteps, call: RuleCall) -> RoutingDecision | Refusal:
        """Answer what a request's rules ask, beginning with `call`, until they are through.

        Raises:
            RequestError: as the router does.
        """
        ends_at = self._clock.monotonic() + self._budget_s
        asking: ConfiguredRule | None = None
        rule_ends_at = ends_at
        try:
            while True:
                if call.rule is not asking:
                    asking = call.rule
                    rule_ends_at = min(ends_at, self._clock.monotonic() + asking.timeout_s)
                try:
                    reply = await self._answer(call, rule_ends_at)
                except RuleFailedError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(reply)
        except StopIteration as done:
            outcome: RoutingDecision | Refusal = done.value
            return outcome
        finally:
            steps.close()

    async def _answer(self, call: RuleCall, ends_at: float) -> CalloutReply:
        gate = self._gate(call.rule)
        started = self._clock.monotonic()
        if started >= ends_at:
            raise RuleFailedError(RuleFailedError.TIMEOUT, "no time is left")
        if gate.open_callouts >= call.rule.concurrency:
            raise RuleFailedError(RuleFailedError.BUSY, "too many callouts are open")
        if not gate.circuit.allows(started):
            raise RuleFailedError(RuleFailedError.CIRCUIT_OPEN, "it failed too often lately")
        gate.open_callouts += 1
        try:
            body = await self._ask(call, ends_at - started)
        except RuleFailedError:
            self._failed(gate)
            raise
        except asyncio.CancelledError:
            gate.circuit.abandoned()
            raise
        finally:
            gate.open_callouts -= 1
            duration_s = self._clock.monotonic() - started
            self._metrics.rule_callouts.labels(call.rule.name).observe(duration_s)
        gate.circuit.succeeded()
        return CalloutReply(body)

    async def _ask(self, call: RuleCall, timeout_s: float) -> bytes:
        match call.callout:
            case HttpCallout() as callout:
                body = await self._post(callout, timeout_s)
            case RpcCallout() as callout:
                body = await self._call(callout, timeout_s)
            case _:  # pyright: ignore[reportUnnecessaryComparison]  # a custom rule may yield anything
                raise RuleFailedError(RuleFailedError.ERROR, "it asks for what is no callout")
        if len(body) > call.callout.max_reply_bytes:
            raise RuleFailedError(RuleFailedError.BAD_REPLY, "the reply is too long")
        return body

    async def _post(self, callout: HttpCallout, timeout_s: float) -> bytes:
        # Nothing is compressed, so that what is read is as long as what is sent; and a redirect
        # would lead to a host that nobody has allowed.
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http().post(
                    callout.url,
                    data=callout.body,
                    headers={**headers, **callout.headers},
                    allow_redirects=False,
                ) as response,
            ):
                if not 200 <= response.status <= 299:
                    why = f"it answered with the status {response.status}"
                    raise RuleFailedError(RuleFailedError.BAD_REPLY, why)
                return await _read(response, callout.max_reply_bytes)
        except TimeoutError as error:
            raise RuleFailedError(RuleFailedError.TIMEOUT, "it did not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = f"it cannot be reached: {type(error).__name__}"
            raise RuleFailedError(RuleFailedError.UNREACHABLE, why) from error

    async def _call(self, callout: RpcCallout, timeout_s: float) -> bytes:
        channel = self._channels.get(callout.url)
        if channel is None:
            channel = HookChannel(callout.url, self._clock, transport=self._transport)
            self._channels[callout.url] = channel
        self._channels.move_to_end(callout.url)
        if len(self._channels) > MAX_GATES:
            await self._channels.popitem(last=False)[1].close()
        try:
            return await channel.call(callout.method, callout.message, timeout_s=timeout_s)
        except RpcFailed as error:
            kind = {
                RpcStatus.DEADLINE_EXCEEDED: RuleFailedError.TIMEOUT,
                RpcStatus.UNAVAILABLE: RuleFailedError.UNREACHABLE,
            }.get(error.status, RuleFailedError.BAD_REPLY)
            raise RuleFailedError(kind, f"the call ended with {error.status.name}") from error

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        return self._session

    def _gate(self, rule: ConfiguredRule) -> _Gate:
        gate = self._gates.get(rule.name)
        if gate is None or gate.rule is not rule:
            circuit = Circuit(failures=self._circuit_failures, open_s=self._circuit_open_s)
            gate = self._gates[rule.name] = _Gate(rule, circuit)
            if len(self._gates) > MAX_GATES:
                self._gates.popitem(last=False)
        return gate

    def _failed(self, gate: _Gate) -> None:
        was_open = gate.circuit.is_open
        gate.circuit.failed(self._clock.monotonic())
        if gate.circuit.is_open and not was_open:
            log.warning("rule-circuit-opened", rule=gate.rule.name)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body of a response, up to one chunk over `most`."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_chunked(_CHUNK_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            break
    return b"".join(pieces)
