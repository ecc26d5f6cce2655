"""The REST API and the console's stream, asked over HTTP without a network."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from pointsman_common import subjects
from pointsman_common.contracts.events_pb2 import LayerHeartbeat, RequestFinished, ShadowReport
from pointsman_common.contracts.flow_pb2 import BandStat, FlowStat, FlowStats
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.contracts.scheduling_pb2 import (
    CandidateView,
    DecisionReceipt,
    PickedEndpoint,
    PluginTrace,
)
from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.in_flight import Lease, LeaseTable
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.builders import POOL, a_descriptor, an_envelope
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_datalayer.adapters.bus_listener import BusListener
from pointsman_datalayer.adapters.rest_api import EventStream, build_rest_api
from pointsman_datalayer.app import digest_limits
from pointsman_datalayer.core.decision_log import DecisionLog
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_metrics import Extraction
from pointsman_datalayer.core.layer_roster import MAX_SHADOWS, SHADOW_REPORTS, LayerRoster
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.live_state import LiveState
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.core.staleness import ReadinessLimits
from pointsman_datalayer.settings import DatalayerSettings

NASTY = "<script>alert(1)</script>"


class World:
    def __init__(self) -> None:
        self.clock, self.bus = VirtualClock(), InMemoryBus()
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        self.leases, self.roster = LeaseTable(), LayerRoster()
        self.decisions = DecisionLog()
        digests = PoolDigests(
            self.registry, self.leases.in_flight, digest_limits(DatalayerSettings())
        )
        self.listener = BusListener(
            self.bus,
            self.clock,
            self.decisions,
            self.roster,
            on_decision=lambda receipt, payload: self.kept.append((receipt.decision_id, payload)),
        )
        self.kept: list[tuple[str, bytes]] = []
        self._discover()
        digests.update(self.clock.monotonic())
        self.state = LiveState(
            self.registry,
            digests,
            self.leases,
            self.roster,
            self.decisions,
            lambda: {"error": "", "warnings": []},
            2.0,
        )

    def _discover(self) -> None:
        endpoints = tuple(
            DiscoveredEndpoint(uid, f"default/{uid}-rank-0", f"10.0.0.{uid[1]}:8000", {}, "vllm")
            for uid in ("e1", "e2")
        )
        config = InferencePool(name=POOL, hash="h1", objectives={"batch": -1})
        self.registry.discover({POOL: DiscoveredPool(config, endpoints)})
        metrics = EndpointMetrics(
            waiting_requests=2, kv_cache_utilization=0.5, read_at=self.clock.monotonic() - 0.25
        )
        self.registry.record_scrape("e1", Extraction(metrics, ("running_requests",)))

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[httpx.AsyncClient]:
        app = FastAPI()
        app.include_router(
            build_rest_api(self.state, self.clock, self.decisions, None, event_clients=2)
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://console") as client:
            yield client

    async def get(self, path: str) -> Any:
        async with self.client() as client:
            response = await client.get(path)
            assert response.status_code == 200, response.text
            return response.json()

    async def status(self, path: str) -> int:
        async with self.client() as client:
            return (await client.get(path)).status_code


def a_receipt(number: int, *, model: str = "llama") -> DecisionReceipt:
    return DecisionReceipt(
        decision_id=f"d{number}",
        lease_id=f"l{number}",
        descriptor=a_descriptor(f"r{number}", model=model),
        candidates=[CandidateView(uid="e1", address="10.0.0.1:8000", total_score=1.5)],
        plugins=[PluginTrace(profile="default", plugin="queue", weight=2.0, scores=[0.75])],
        chosen=[PickedEndpoint(uid="e1", address="10.0.0.1:8000")],
        reason="shortest queue",
    )


async def test_a_pool_shows_its_config_endpoints_ages_and_regime() -> None:
    world = World()
    world.leases.open(Lease("l1", "edge", POOL, "e1", prefill_tokens=50), 1.0)
    (summary,) = (await world.get("/v1/pools"))["pools"]
    assert (summary["pool"], summary["in_flight"], summary["endpoint_count"]) == (POOL, 1, 2)
    pool = await world.get(f"/v1/pools/{POOL}")
    assert pool["config"]["objectives"] == [{"name": "batch", "priority": -1}]
    assert pool["regime"]["scarcity"] == "tight"
    one, other = pool["endpoints"]
    assert (one["metrics"]["waiting_requests"], one["metrics"]["age_s"], one["ready"]) == (
        2,
        0.25,
        True,
    )
    assert (one["in_flight"], one["prefill_tokens"]) == (1, 50)
    assert one["problem"] == "lacks running_requests"
    assert (other["metrics"]["waiting_requests"], other["metrics"]["age_s"]) == (None, None)
    assert other["not_ready_reason"] == "not scraped yet"


async def test_a_pool_that_is_not_known_is_404() -> None:
    assert await World().status("/v1/pools/default/none") == 404


async def test_decisions_are_listed_newest_first_and_opened_by_either_id() -> None:
    world = World()
    for number in (1, 2, 3):
        world.decisions.add(a_receipt(number), 10)
    world.decisions.finish(RequestFinished(lease_id="l2", http_status=200, duration_ms=40))
    listed = (await world.get(f"/v1/pools/{POOL}/decisions?limit=2"))["decisions"]
    assert [item["decision_id"] for item in listed] == ["d3", "d2"]
    assert (listed[1]["status"], listed[1]["duration_ms"], listed[0]["status"]) == (200, 40, None)
    for key in ("d2", "r2"):
        found = await world.get(f"/v1/pools/{POOL}/decisions/{key}")
        assert found["receipt"]["plugins"][0]["scores"] == [0.75]
        assert found["finished"]["http_status"] == 200
    assert await world.status(f"/v1/pools/{POOL}/decisions/none") == 404
    assert await world.status(f"/v1/pools/{POOL}/decisions?limit=0") == 422


async def test_the_listener_fills_log_and_roster_and_ignores_what_it_cannot_read() -> None:
    world = World()
    receipt = a_receipt(1)
    for subject in (subjects.decision(POOL), subjects.flow_stats(POOL), subjects.HEARTBEAT):
        world.listener.receive(subject, b"\xff\xff")
    world.listener.receive(subjects.decision(POOL), receipt.SerializeToString())
    assert world.kept == [("d1", receipt.SerializeToString())]
    assert len(world.decisions) == 1


async def test_layers_show_who_fills_each_seat() -> None:
    world = World()
    beat = LayerHeartbeat(
        envelope=an_envelope(publisher="router/1"),
        description=DescribeResponse(layer="router", name="my-router", software_version="2.0"),
        address="grpc://router:9101",
        draining=True,
        gauges={"rate": float("nan")},
    )
    world.listener.receive(subjects.HEARTBEAT, beat.SerializeToString())
    await world.clock.advance(1.5)
    (layer,) = (await world.get("/v1/layers"))["layers"]
    assert (layer["layer"], layer["implementation"], layer["version"]) == (
        "router",
        "my-router",
        "2.0",
    )
    assert (layer["age_s"], layer["draining"], layer["gauges"]) == (1.5, True, {"rate": None})


async def test_flows_of_all_replicas_are_added_up_longest_first() -> None:
    world = World()
    for replica in ("a", "b"):
        stats = FlowStats(
            envelope=an_envelope(publisher=replica),
            pool=POOL,
            flows=[
                FlowStat(fairness_id="calm", dispatched=5),
                FlowStat(fairness_id="loud", queued=3, oldest_wait_s=0.5, left={"shed": 2}),
            ],
        )
        world.listener.receive(subjects.flow_stats(POOL), stats.SerializeToString())
    loud, calm = (await world.get(f"/v1/pools/{POOL}"))["flows"]
    assert (loud["fairness_id"], loud["queued"], loud["left"]) == ("loud", 6, 4)
    assert (calm["fairness_id"], calm["dispatched"]) == ("calm", 10)


async def test_bands_of_all_replicas_are_added_up_and_the_longest_waits_are_told() -> None:
    world = World()
    for replica, wait_s in (("a", 0.5), ("b", 2.0)):
        bands = [
            BandStat(priority=0, queued=3, dispatched=5, wait_p99_s=wait_s, left={"shed": 2}),
            BandStat(priority=10, queued=1, wait_p50_s=float("nan")),
        ]
        stats = FlowStats(envelope=an_envelope(publisher=replica), pool=POOL, bands=bands)
        world.listener.receive(subjects.flow_stats(POOL), stats.SerializeToString())
    told = await world.get(f"/v1/pools/{POOL}/flow")
    high, low = told["bands"]
    assert (high["priority"], high["queued"], high["wait_p50_s"]) == (10, 2, 0.0)
    assert (low["queued"], low["dispatched"], low["wait_p99_s"]) == (6, 10, 2.0)
    assert low["left"] == {"shed": 4}
    assert [one["queued"] for one in told["replicas"]] == [4, 4]
    assert world.roster.queued(POOL, world.clock.monotonic()) == 8


async def test_shadows_show_their_last_report_and_agreement_over_time() -> None:
    world = World()
    for agreed in (50, 90):
        report = ShadowReport(
            envelope=an_envelope(publisher="shadow/1"),
            pool=POOL,
            name="canary",
            decisions=100,
            agreed=agreed,
            hit_ratio=0.4,
        )
        subject = subjects.shadow(POOL, "canary")
        world.listener.receive(subject, report.SerializeToString())
    await world.clock.advance(2.0)
    (shadow,) = (await world.get(f"/v1/pools/{POOL}/shadows"))["shadows"]
    assert (shadow["name"], shadow["agreement"], shadow["age_s"]) == ("canary", 0.9, 2.0)
    assert [one["agreement"] for one in shadow["agreement_over_time"]] == [0.5, 0.9]
    assert shadow["mean_observed_ttft_s"] is None
    await world.clock.advance(700.0)
    assert (await world.get(f"/v1/pools/{POOL}/shadows"))["shadows"] == []


def test_reports_of_shadows_are_bounded() -> None:
    roster = LayerRoster()
    for number in range(2 * MAX_SHADOWS):
        for _ in range(2):
            report = ShadowReport(envelope=an_envelope(), pool=POOL, name=f"s{number}")
            roster.told_shadow(report, 1.0)
    assert len(roster.shadows(POOL, 1.0)) == MAX_SHADOWS
    for _ in range(3 * SHADOW_REPORTS):
        roster.told_shadow(ShadowReport(envelope=an_envelope(), pool=POOL, name="s0"), 1.0)
    assert len(roster.shadows(POOL, 1.0)[0].reports) == SHADOW_REPORTS


@pytest.mark.parametrize("what", ["flow", "shadows", "history"])
async def test_what_is_told_of_a_pool_needs_the_pool(what: str) -> None:
    world = World()
    assert await world.status(f"/v1/pools/default/none/{what}") == 404
    assert await world.status(f"/v1/pools/{POOL}/{what}") == 200


async def test_the_stream_sends_the_state_twice_a_second() -> None:
    world = World()
    world.decisions.add(a_receipt(1, model=NASTY), 10)
    stream = EventStream(world.state, world.clock, max_clients=2)
    lines = stream.lines()
    first = await anext(lines)
    assert first.startswith("data: {")
    assert first.endswith("\n\n")
    state = json.loads(first.removeprefix("data: "))
    assert state["pools"][0]["picks"][0]["descriptor"]["model"] == NASTY
    assert stream.clients == 1
    await lines.aclose()
    assert stream.clients == 0


async def test_no_more_consoles_watch_than_allowed() -> None:
    world = World()
    stream = EventStream(world.state, world.clock, max_clients=1)
    first = stream.lines()
    await anext(first)
    assert [line async for line in stream.lines()] == []
    await first.aclose()


class _Sources(HTMLParser):
    """What a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            value for key, value in attrs if key in ("src", "href") and value is not None
        ]


async def test_the_console_is_one_page_that_loads_nothing_and_parses_no_text_as_html() -> None:
    async with World().client() as client:
        response = await client.get("/")
    assert response.status_code == 200
    assert "default-src 'none'" in response.headers["content-security-policy"]
    sources = _Sources()
    sources.feed(response.text)
    assert all(source.startswith("data:") for source in sources.found)
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in response.text, way


@pytest.mark.parametrize("path", ["/v1/pools", f"/v1/pools/{POOL}", "/v1/layers", "/v1/discovery"])
async def test_every_answer_is_json(path: str) -> None:
    assert isinstance(await World().get(path), dict)
