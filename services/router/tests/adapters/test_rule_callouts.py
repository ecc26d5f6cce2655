"""Rules that ask real services on loopback: what hangs, fails or says too much stays bounded."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from pointsman_common.clock import SystemClock
from pointsman_common.contracts import routing_pb2
from pointsman_common.contracts.layer_pb2 import HeaderValue
from pointsman_common.contracts.rule_callout_pb2 import RuleRequest, RuleResponse
from pointsman_common.inference_pool import InferencePool, RoutePolicy
from pointsman_router.adapters.routing_rpc_server import RoutingHook
from pointsman_router.adapters.rule_callouts import RuleCallouts
from pointsman_router.core.pool_routers import PoolRouters
from pointsman_router.core.rules.callout_access import CalloutAccess
from pointsman_router.core.rules.policy_book import PolicyBook
from pointsman_router.metrics import Metrics
from pointsman_router.plugins.rules.catalogue import rule_types
from wire import Server

POOL = "default/llama"
APPLY = "/pointsman.routing.v1.RuleCallout/Apply"
BODY = b'{"model":"m","prompt":"hi","t":1.0}'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Start = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def http() -> AsyncIterator[Start]:
    """`await http(handler)` serves a handler and gives its URL."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler) -> str:
            app = web.Application()
            app.router.add_post("/", handler)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            return f"http://127.0.0.1:{port}/"

        yield start


class Routing:
    """A hook whose pool has one rule that asks."""

    def __init__(
        self, url: str, *, failures: int = 100, budget_s: float = 20.0, **rule: Any
    ) -> None:
        self.metrics = Metrics()
        clock = SystemClock()
        self.callouts = RuleCallouts(
            clock,
            self.metrics,
            budget_s=budget_s,
            circuit_failures=failures,
            circuit_open_s=60.0,
        )
        routers = PoolRouters(
            None,
            max_prefix_blocks=10,
            forwarded_headers=(),
            on_refused=lambda *_: None,
            policies=PolicyBook(rule_types(CalloutAccess()), lambda *_: None),
        )
        spec = {"name": "r", "type": "external", "timeout": "20s", **rule}
        spec["parameters"] = {"url": url}
        policy = RoutePolicy("p", json.dumps({"rules": [spec]}))
        routers.use(InferencePool(name=POOL, route_policies=(policy,)))
        self.hook = RoutingHook(
            routers, clock, self.metrics, read_usage=True, callouts=self.callouts
        )

    async def send(self, body: bytes = BODY) -> routing_pb2.RouteResponse:
        headers = {":method": "POST", ":path": "/v1/completions"}
        request = routing_pb2.RouteRequest(
            pool=POOL,
            body=body,
            headers=[HeaderValue(key=key, value=value.encode()) for key, value in headers.items()],
        )
        answer = self.hook(request.SerializeToString())
        assert not isinstance(answer, bytes), "a rule asks"
        return routing_pb2.RouteResponse.FromString(await answer)

    async def why(self) -> str:
        """The kind of the rule's failure, which refuses the request."""
        answer = await self.send()
        assert answer.rejection.http_status == 503, answer
        assert answer.rejection.reason == "rule-failed"
        return answer.rejection.message.removeprefix("the rule p/r failed: ")

    def value(self, name: str, **labels: str) -> float:
        found = self.metrics.registry.get_sample_value(f"pointsman_router_{name}", labels)
        return found or 0.0

    async def __aenter__(self) -> "Routing":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.callouts.close()


async def test_a_rule_over_http_changes_the_request(http: Start) -> None:
    async def apply(request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["body_text"] == BODY.decode()
        return web.json_response({"changes": {"set": {"t": "2"}}})

    async with Routing(await http(apply)) as routing:
        answer = await routing.send()
        [splice] = answer.routed.body_patch.splices.splices
        assert (BODY[splice.offset :][: splice.removed], splice.inserted) == (b"1.0", b"2")
        assert routing.value("rule_requests_total", rule="p/r", result="changed") == 1
        assert routing.value("rule_callout_duration_seconds_count", rule="p/r") == 1


async def test_a_rule_over_grpc_changes_the_request() -> None:
    def apply(message: bytes) -> bytes:
        reply = RuleResponse()
        reply.changes.model = RuleRequest.FromString(message).model + "2"
        return reply.SerializeToString()

    server = Server()
    server.unary(APPLY, apply)
    [address] = await server.listen("127.0.0.1:0")
    try:
        async with Routing(f"grpc://{address}") as routing:
            answer = await routing.send()
            assert answer.routed.descriptor.target_model == "m2"
            assert answer.routed.model_in_answer == "m"
    finally:
        await server.drain(0)


async def test_bodies_that_cannot_be_read_again_are_refused_before_anyone_is_asked(
    http: Start,
) -> None:
    async def apply(_: web.Request) -> web.Response:
        return web.json_response({})

    async with Routing(await http(apply)) as routing:
        headers = [HeaderValue(key=":path", value=b"/v1/completions")]
        request = routing_pb2.RouteRequest(pool=POOL, body=b"{", headers=headers)
        answer = routing.hook(request.SerializeToString())
        assert isinstance(answer, bytes)
        assert routing_pb2.RouteResponse.FromString(answer).rejection.http_status == 400


async def hang(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


async def flood(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(90):
        await response.write(b" " * (1 << 20))
    return response


async def fail(_: web.Request) -> web.Response:
    return web.Response(status=500, text="{}")


async def redirect(_: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/")


async def not_json(_: web.Request) -> web.Response:
    return web.Response(text="<html>")


async def compressed(_: web.Request) -> web.Response:
    return web.Response(body=b"\x1f\x8b" + b"\x00" * 20, headers={"content-encoding": "gzip"})


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (hang, "timeout"),
        (drip, "timeout"),
        (flood, "bad-reply"),
        (fail, "bad-reply"),
        (redirect, "bad-reply"),
        (not_json, "bad-reply"),
        (compressed, "bad-reply"),
    ],
)
async def test_a_service_that_misbehaves_is_the_rules_failure(
    http: Start, handler: Handler, kind: str
) -> None:
    timeout = "200ms" if kind == "timeout" else "20s"
    async with Routing(await http(handler), timeout=timeout) as routing:
        assert await routing.why() == kind
        assert routing.value("rule_failures_total", rule="p/r", kind=kind) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "grpc://127.0.0.1:1"])
async def test_a_service_that_is_not_there_is_unreachable(url: str) -> None:
    async with Routing(url) as routing:
        assert await routing.why() == "unreachable"
    async with Routing(url, onFailure="skip") as routing:
        assert not (await routing.send()).routed.HasField("body_patch")


async def test_all_callouts_of_a_request_share_the_budget(http: Start) -> None:
    async with Routing(await http(hang), budget_s=0.2) as routing:
        assert await routing.why() == "timeout"


async def test_one_callout_too_many_fails_at_once_and_room_comes_back(http: Start) -> None:
    release, came = asyncio.Event(), asyncio.Event()

    async def wait(_: web.Request) -> web.Response:
        came.set()
        await release.wait()
        return web.json_response({})

    async with Routing(await http(wait), maxConcurrency=1) as routing:
        first = asyncio.create_task(routing.send())
        await asyncio.wait_for(came.wait(), 20)
        assert await routing.why() == "busy"
        release.set()
        assert (await first).HasField("routed")
        assert (await routing.send()).HasField("routed")


async def test_a_client_that_goes_ends_its_callout_and_makes_room(http: Start) -> None:
    came = asyncio.Event()

    async def wait_once(_: web.Request) -> web.Response:
        if not came.is_set():
            came.set()
            await asyncio.Event().wait()
        return web.json_response({})

    async with Routing(await http(wait_once), maxConcurrency=1) as routing:
        first = asyncio.create_task(routing.send())
        await asyncio.wait_for(came.wait(), 20)
        first.cancel()
        await asyncio.wait([first])
        assert (await routing.send()).HasField("routed")


async def test_a_service_that_keeps_failing_is_left_alone(http: Start) -> None:
    calls = 0

    async def count(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response(status=503)

    async with Routing(await http(count), failures=3) as routing:
        assert [await routing.why() for _ in range(3)] == ["bad-reply"] * 3
        assert await routing.why() == "circuit-open"
        assert calls == 3
