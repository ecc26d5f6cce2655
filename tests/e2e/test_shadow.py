"""A shadow with another policy beside production under load, over a real NATS: what it reports is
what follows from production's receipts, and nothing that it does is felt by production.

The services' own parts, in one process; only the engines are played.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.ports import free_port
from support.processes import start_module, start_nats

from pointsman_cli.adapters.shadow_listener import hear_reports
from pointsman_cli.core.shadow_summary import ShadowSummary, summarize
from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import SystemClock
from pointsman_common.contracts.events_pb2 import ShadowReport
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt, PickRequest, PickResponse
from pointsman_common.decision_receipts import SharedParts, unfold_receipts
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.in_flight import LeaseTable
from pointsman_common.lease_subscriber import LeaseSubscriber
from pointsman_common.nats_bus import NatsBus
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import (
    POOL,
    a_descriptor,
    a_pool_config,
    a_snapshot,
    an_endpoint,
)
from pointsman_common.testing.waiting import until
from pointsman_ext_proc.adapters.lease_book import LeaseBook, LeaseRules
from pointsman_ext_proc.adapters.request_event_publisher import RequestEventPublisher
from pointsman_ext_proc.core.endpoint_directory import EndpointDirectory
from pointsman_ext_proc.core.exchange_events import Destination, Dispatched, Usage
from pointsman_ext_proc.core.open_lease import LeaseEnd
from pointsman_scheduler.adapters.receipt_publisher import ReceiptPublisher
from pointsman_scheduler.adapters.scheduling_rpc_server import SchedulingHook
from pointsman_scheduler.adapters.shadow_bus import ShadowBus
from pointsman_scheduler.adapters.shadow_runner import ShadowRunner
from pointsman_scheduler.core.config import compile_config
from pointsman_scheduler.core.decision_replay import differences, replay
from pointsman_scheduler.core.picking import Picking, StateLimits
from pointsman_scheduler.core.plugin_protocols import LatencyPredictor
from pointsman_scheduler.core.scheduler import Decision
from pointsman_scheduler.core.shadow_comparison import cached_tokens
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.settings import SchedulerSettings
from pointsman_scheduler.shadow_app import build_shadow
from pointsman_scheduler.testing import a_config

REQUESTS = 400
ENDPOINTS = 4
CLOCK = SystemClock()
PRODUCTION = a_config(
    "active-request-scorer", "prefix-cache-scorer", weights={"prefix-cache-scorer": 0.3}
)
SHADOW = a_config({"type": "predicted-latency-cost-scorer", "parameters": {"learnSpeeds": False}})
"""What the shadow learns of the engines' speed, production's receipts cannot tell: its policy
predicts nothing, so it learns nothing."""

NEVER_STALE = StateLimits(fresh_s=3600.0)


@dataclass
class Production:
    """A scheduler, and an edge whose requests an engine of the test's answers."""

    hook: SchedulingHook
    book: LeaseBook
    view: PoolView
    rng: Random = field(default_factory=lambda: Random(7))
    answered: int = 0

    async def load(self, requests: int) -> None:
        """A conversation's turn every few milliseconds; some tens are in flight at a time."""
        async with asyncio.TaskGroup() as group:
            for number in range(requests):
                group.create_task(self._request(number))
                await CLOCK.sleep(self.rng.uniform(0.0, 0.006))

    async def _request(self, number: int) -> None:
        group = self.rng.randrange(12)
        blocks = [group << 32 | block for block in range(8)]
        blocks += [(number + 1) << 48 | block for block in range(self.rng.randrange(40))]
        descriptor = a_descriptor(
            f"r{number}", prompt_tokens=64 * len(blocks) + number % 64, block_hashes=blocks
        )
        lease_id, began = self.book.new_id(), CLOCK.monotonic()
        question = PickRequest(descriptor=descriptor, lease_id=lease_id)
        picked = PickResponse.FromString(self.hook(question.SerializeToString())).picked
        destinations = tuple(Destination(one.uid, one.address) for one in picked.endpoints)
        dispatched = Dispatched(lease_id, descriptor, destinations, picked)
        self.book.open(dispatched, arrived_at=began, request_bytes=100)
        await CLOCK.sleep(picked.prefill_tokens * 20e-6)
        self.book.first_chunk(lease_id, streaming=True)
        await CLOCK.sleep(self.rng.uniform(0.02, 0.08))
        self.book.end(lease_id, LeaseEnd(200, "finished", 10, Usage(1, 5, 0)))
        self.answered += 1


@asynccontextmanager
async def running(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def bus_url(tmp_path: Path) -> AsyncIterator[str]:
    port = free_port()
    nats = start_nats(port, tmp_path / "nats.log")
    yield f"nats://127.0.0.1:{port}"
    nats.terminate()
    nats.stop()


@asynccontextmanager
async def a_bus(url: str, name: str) -> AsyncIterator[NatsBus]:
    bus = NatsBus(url, CLOCK, name=name)
    async with running(bus.run()):
        await until(lambda: bus.connected, timeout_s=20.0)
        yield bus


def a_view() -> PoolView:
    view, now = PoolView(max_age_s=10.0), CLOCK.monotonic()
    view.apply_config(a_pool_config())
    endpoints = [an_endpoint(index, read_at=now) for index in range(1, ENDPOINTS + 1)]
    view.apply_snapshot(a_snapshot(endpoints, now=now), now)
    return view


@asynccontextmanager
async def production(scheduler_bus: Bus, edge_bus: Bus) -> AsyncIterator[Production]:
    view, leases, metrics = a_view(), LeaseTable(edge_ttl_s=60.0), Metrics()
    picking = Picking(
        view, leases, PLUGINS, PRODUCTION, rng=Random(1), replica="s1", limits=NEVER_STALE
    )
    stamp = EnvelopeStamp("scheduler/s1", CLOCK)
    receipts = ReceiptPublisher(scheduler_bus, CLOCK, stamp, metrics, SchedulerSettings())
    events = LeaseSubscriber(
        scheduler_bus,
        CLOCK,
        leases,
        stamp,
        on_picked=picking.learn_pick,
        on_serving=picking.learn_first_token,
        on_finished=picking.learn_finish,
    )
    edge_stamp = EnvelopeStamp("ext-proc/e1", CLOCK)
    book = LeaseBook(
        edge_bus,
        CLOCK,
        edge_stamp,
        RequestEventPublisher(edge_bus, CLOCK, edge_stamp, pool=POOL, gather_s=0.002),
        EndpointDirectory(view, POOL),
        rules=LeaseRules(pool=POOL, publish_descriptors="auto"),
    )
    hook = SchedulingHook(CLOCK, picking, receipts, metrics)
    async with running(receipts.run(), events.run(), book.run()):
        yield Production(hook, book, view)


@asynccontextmanager
async def shadow(bus: Bus) -> AsyncIterator[ShadowRunner]:
    """Reports when it is told to."""
    settings = SchedulerSettings(
        role="shadow",
        shadow_name="cost",
        metrics_fresh_s=3600.0,
        edge_lease_ttl_s=60.0,
        seed=3,
    )
    runner = build_shadow(
        ShadowBus(bus, "cost"),
        CLOCK,
        EnvelopeStamp("shadow/cost", CLOCK),
        a_view(),
        settings=settings,
        config=SHADOW,
        metrics=Metrics(),
        catalogue=PLUGINS,
    )
    async with running(runner.events.run()):
        yield runner


def from_receipts(receipts: list[DecisionReceipt]) -> ShadowSummary:
    """What the shadow's policy would have done, worked out from what production has told."""
    shared, config = SharedParts(), compile_config(SHADOW, PLUGINS)
    [profile] = config.scheduler.profiles.values()
    predictor = profile.scorers[0].plugin
    assert isinstance(predictor, LatencyPredictor)
    agreed, ttft, cached, prompt = 0, [0.0, 0.0], [0, 0], 0
    loads: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for told in receipts:
        shared.keep(told)
        receipt = shared.complete(told)
        original = compile_config(receipt.endpoint_picker_config, PLUGINS)
        assert differences(receipt, replay(receipt, receipt.candidate_set, original)) == []
        found = replay(receipt, receipt.candidate_set, config)
        assert isinstance(found.outcome, Decision)
        uids = [one.uid for one in found.candidates.endpoints]
        rows = (found.outcome.row, uids.index(receipt.chosen[0].uid))
        agreed += rows[0] == rows[1]
        prompt += found.request.prompt_tokens
        prediction = predictor.predict(found.request, found.candidates)
        for side, row in enumerate(rows):
            held = cached_tokens(found.request, found.candidates, row)
            ttft[side] += float(prediction.ttft_s[row])
            cached[side] += held
            loads[side][uids[row]] += found.request.prompt_tokens - held
    count = len(receipts)
    return ShadowSummary(
        pool=POOL,
        name="receipts",
        config_hash=config.hash,
        windows=1,
        seconds=0.0,
        decisions=count,
        agreed=agreed,
        refused=0,
        skipped={},
        missed=0,
        agreement=agreed / count,
        predicted_ttft_s=ttft[0] / count,
        predicted_ttft_production_s=ttft[1] / count,
        observed_ttft_production_s=0.0,
        hit_ratio=cached[0] / prompt,
        hit_ratio_production=cached[1] / prompt,
        imbalance=max(loads[0].values()) * ENDPOINTS / loads[0].total(),
        imbalance_production=max(loads[1].values()) * ENDPOINTS / loads[1].total(),
    )


async def test_what_a_shadow_reports_under_load_follows_from_the_receipts(bus_url: str) -> None:
    receipts: list[DecisionReceipt] = []
    reports: list[ShadowReport] = []
    async with (
        a_bus(bus_url, "scheduler") as scheduler_bus,
        a_bus(bus_url, "edge") as edge_bus,
        a_bus(bus_url, "shadow") as shadow_bus,
        production(scheduler_bus, edge_bus) as made,
    ):
        edge_bus.subscribe(
            subjects.shadow(POOL, subjects.ALL),
            lambda _, payload: reports.append(ShadowReport.FromString(payload)),
        )
        edge_bus.subscribe(
            subjects.decision(POOL), lambda _, payload: receipts.extend(unfold_receipts(payload))
        )
        async with shadow(shadow_bus) as runner:

            def wanted() -> bool:
                runner.report(window_s=0.0)
                return made.book.descriptors.wanted(CLOCK.monotonic())

            await until(wanted, timeout_s=20.0)
            await made.load(REQUESTS)
            await until(lambda: len(receipts) == REQUESTS, timeout_s=20.0)
            await until(lambda: runner.decisions(POOL) == REQUESTS, timeout_s=20.0)
            runner.report(window_s=1.0)
            await until(lambda: sum(one.decisions for one in reports), timeout_s=20.0)
    [summary] = summarize(reports)
    expected = from_receipts(receipts)
    assert (summary.decisions, summary.refused, summary.skipped) == (REQUESTS, 0, {})
    assert summary.config_hash == expected.config_hash
    assert summary.missed == 0
    # The policies do differ, or this would show nothing.
    assert expected.agreement < 0.9
    # The shadow sees each pick a few milliseconds later than it was made.
    assert summary.agreement == pytest.approx(expected.agreement, abs=0.06)
    assert summary.hit_ratio == pytest.approx(expected.hit_ratio, abs=0.03)
    assert summary.hit_ratio_production == pytest.approx(expected.hit_ratio_production, abs=0.02)
    assert summary.predicted_ttft_s == pytest.approx(expected.predicted_ttft_s, rel=0.25)
    assert summary.predicted_ttft_production_s == pytest.approx(
        expected.predicted_ttft_production_s, rel=0.25
    )
    assert summary.imbalance == pytest.approx(expected.imbalance, abs=0.25)
    assert summary.imbalance_production == pytest.approx(expected.imbalance_production, abs=0.05)
    assert summary.observed_ttft_production_s > 0.0


SCHEDULER = "pointsman_scheduler"


async def test_a_shadow_that_is_slow_crashes_or_lies_is_not_felt_by_production(
    bus_url: str, tmp_path: Path
) -> None:
    """The shadow is a process: stopped while its messages pile up, killed, and impersonated."""
    environment = {
        "SCHEDULER_ROLE": "shadow",
        "SCHEDULER_SHADOW_NAME": "canary",
        "SCHEDULER_BUS_URL": bus_url,
        "SCHEDULER_DATALAYER_URL": f"unix://{tmp_path}/nobody.sock",
        "SCHEDULER_ADMIN_ADDRESS": f"127.0.0.1:{free_port()}",
        "SCHEDULER_SHADOW_REPORT_S": "0.2",
    }
    process = start_module(SCHEDULER, tmp_path / "shadow.log", environment)
    try:
        async with (
            a_bus(bus_url, "scheduler") as scheduler_bus,
            a_bus(bus_url, "edge") as edge_bus,
            a_bus(bus_url, "liar") as liar,
            production(scheduler_bus, edge_bus) as made,
        ):

            def tell_pool() -> bool:
                # The shadow knows the pool from the bus, as from a datalayer.
                now = CLOCK.monotonic()
                told = a_snapshot([an_endpoint(index, read_at=now) for index in (1, 2)], now=now)
                edge_bus.publish(subjects.pool_snapshot(POOL), told.SerializeToString())
                return made.book.descriptors.wanted(CLOCK.monotonic())

            await until(tell_pool, timeout_s=30.0)
            heard = await hear_reports(bus_url, pool=POOL, seconds=1.0)
            assert {one.name for one in heard} == {"canary"}
            await made.load(50)
            os.kill(process.pid, signal.SIGSTOP)
            await made.load(100)
            process.kill()
            await made.load(50)
            lie = ShadowReport(pool=POOL, name="canary", agreed=1 << 60, hit_ratio=float("nan"))
            for payload in (b"\xff" * 5000, lie.SerializeToString()):
                for _ in range(100):
                    liar.publish(subjects.shadow(POOL, "canary"), payload)
            await made.load(50)
            await until(lambda: not len(made.book), timeout_s=20.0)
            assert made.answered == 250
            assert (scheduler_bus.dropped, edge_bus.dropped) == (0, 0)
    finally:
        process.kill()
