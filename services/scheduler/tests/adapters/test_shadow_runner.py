"""A shadow decides on what it hears, on production's state alone, and reports."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import pytest

from pointsman_common import subjects
from pointsman_common.contract_codec import pack_block_hashes
from pointsman_common.contracts.events_pb2 import (
    Lease,
    RequestEvents,
    RequestFinished,
    RequestPicked,
    RequestServing,
    ShadowReport,
)
from pointsman_common.endpoint_picker_config import DEFAULT_CONFIG, config_hash
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.plugin_catalogue import NoParameters, PluginType
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import (
    POOL,
    a_descriptor,
    a_pool_config,
    a_snapshot,
    an_endpoint,
)
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_scheduler.adapters.shadow_bus import ShadowBus
from pointsman_scheduler.adapters.shadow_runner import ShadowRunner
from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.config import COST_CONFIG
from pointsman_scheduler.core.plugin_protocols import Plugin
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.settings import SchedulerSettings
from pointsman_scheduler.shadow_app import build_shadow
from pointsman_scheduler.testing import a_config

ACTIVE = a_config("active-request-scorer")


class BrokenScorer:
    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        raise ZeroDivisionError


BROKEN: PluginType[Plugin] = PluginType(NoParameters, lambda _name, _parameters: BrokenScorer())


@dataclass
class World:
    """An edge that tells of its picks, and a shadow that hears them."""

    config: str
    settings: SchedulerSettings
    clock: VirtualClock = field(default_factory=VirtualClock)
    bus: InMemoryBus = field(default_factory=InMemoryBus)
    metrics: Metrics = field(default_factory=Metrics)
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    def __post_init__(self) -> None:
        self.view = PoolView(max_age_s=10.0)
        self.view.apply_config(a_pool_config())
        now = self.clock.monotonic()
        self.view.apply_snapshot(a_snapshot([an_endpoint(1), an_endpoint(2)], now=now), now)
        name = self.settings.shadow_name
        self.runner: ShadowRunner = build_shadow(
            ShadowBus(self.bus, name),
            self.clock,
            EnvelopeStamp("shadow/test", self.clock),
            self.view,
            settings=self.settings,
            config=self.config,
            metrics=self.metrics,
            catalogue={**PLUGINS, "broken-scorer": BROKEN},
        )
        self.stamp = EnvelopeStamp("ext-proc/a", self.clock)

    def picked(
        self,
        lease_id: str,
        endpoint: str,
        *,
        tokens: int = 640,
        blocks: Iterable[int] = (),
        descriptor: bool = True,
        unscheduled: bool = False,
    ) -> None:
        asked = a_descriptor(lease_id, prompt_tokens=tokens, block_hashes=blocks)
        event = RequestPicked(
            lease=Lease(
                lease_id=lease_id,
                endpoint_uid=endpoint,
                prompt_tokens=tokens,
                prefill_tokens=tokens,
                model="llama",
            ),
            block_tokens=64,
            unscheduled=unscheduled,
        )
        if descriptor:
            event.descriptor.CopyFrom(asked)
        self.tell(subjects.request_picked(POOL), picked=[event])

    def serving(self, lease_id: str, ttft_ms: int) -> None:
        event = RequestServing(lease_id=lease_id, ttft_ms=ttft_ms)
        self.tell(subjects.request_serving(POOL), serving=[event])

    def finished(self, lease_id: str) -> None:
        event = RequestFinished(lease_id=lease_id, http_status=200, model="llama")
        self.tell(subjects.request_finished(POOL), finished=[event])

    async def report(self) -> ShadowReport:
        """The next one, with all that was told before it."""
        await self.clock.advance(self.settings.shadow_report_s)
        sent = self.bus.sent(subjects.shadow(POOL, "canary"))
        return ShadowReport.FromString(sent[-1])

    def lose_one(self, subject: str) -> None:
        self.stamp.next(subject)

    def tell(self, subject: str, **events: object) -> None:
        message = RequestEvents(envelope=self.stamp.next(subject), pool=POOL, **events)  # type: ignore[arg-type]  # a message's own
        self.bus.publish(subject, message.SerializeToString())


@pytest.fixture
async def worlds() -> AsyncIterator[list[World]]:
    made: list[World] = []
    yield made
    for world in made:
        for task in world.tasks:
            task.cancel()
        await asyncio.gather(*world.tasks, return_exceptions=True)


async def started(worlds: list[World], config: str = COST_CONFIG, **settings: object) -> World:
    told = {"role": "shadow", "shadow_name": "canary", "seed": 1, **settings}
    world = World(config, SchedulerSettings(**told))  # type: ignore[arg-type]  # as given
    world.tasks = [asyncio.create_task(part.run()) for part in (world.runner.events, world.runner)]
    worlds.append(world)
    await world.clock.advance(0.0)
    return world


async def test_it_reports_at_once_and_says_that_it_wants_descriptors(worlds: list[World]) -> None:
    world = await started(worlds)
    [sent] = world.bus.sent(subjects.shadow(POOL, "canary"))
    report = ShadowReport.FromString(sent)
    assert (report.pool, report.name, report.decisions) == (POOL, "canary", 0)
    assert report.wants_descriptors
    assert report.config_hash == config_hash(COST_CONFIG)


async def test_agreement_and_the_worth_of_both_choices_are_told(worlds: list[World]) -> None:
    world = await started(worlds)
    world.picked("l1", "e1", tokens=6400, blocks=range(100))
    # Production goes on to e1, which is busy; the shadow would not.
    world.picked("l2", "e1", tokens=640, blocks=range(200, 210))
    world.picked("l3", "e2", tokens=640, blocks=range(300, 310))
    world.serving("l1", 500)
    report = await world.report()
    assert (report.decisions, report.refused, report.skipped) == (3, 0, 0)
    assert 1 <= report.agreed <= 2  # the first is a tie
    assert report.mean_predicted_ttft_s < report.mean_predicted_ttft_production_s
    assert report.hit_ratio == report.hit_ratio_production == 0.0
    assert report.imbalance_production == pytest.approx(2 * 7040 / 7680)
    assert (report.observed, report.mean_observed_ttft_s) == (1, 0.5)
    assert report.window_s == 5.0
    assert (await world.report()).decisions == 0


async def test_the_state_follows_production_and_not_the_shadows_own_choices(
    worlds: list[World],
) -> None:
    world = await started(worlds, ACTIVE)
    for number in range(8):
        world.picked(f"l{number}", "e1", blocks=range(10))
    report = await world.report()
    # After the first, e2 looks idle each time, since nothing of the shadow's ever got there.
    assert report.decisions == 8
    assert report.agreed <= 1
    assert report.hit_ratio == 0.0
    assert report.hit_ratio_production == pytest.approx(7 * 639 / (8 * 640))


async def test_what_plugins_remember_follows_production_too(worlds: list[World]) -> None:
    sessions = a_config(
        {
            "type": "session-affinity-scorer",
            "parameters": {
                "strategy": "session_id",
                "sessionIdConfig": {"sources": [{"header": "x-session-id"}]},
            },
        }
    )
    world = await started(worlds, sessions)
    for number in range(10):
        asked = a_descriptor(f"l{number}")
        asked.headers["x-session-id"] = "s1"
        event = RequestPicked(lease=Lease(lease_id=f"l{number}", endpoint_uid="e2"))
        event.descriptor.CopyFrom(asked)
        world.tell(subjects.request_picked(POOL), picked=[event])
    assert (await world.report()).agreed >= 9


async def test_what_cannot_be_compared_is_skipped_and_counted_by_its_reason(
    worlds: list[World],
) -> None:
    world = await started(worlds)
    world.picked("l1", "e1", descriptor=False)
    world.picked("l2", "e1", unscheduled=True)
    world.picked("l3", "e9")
    world.picked("l4", "e1")
    world.picked("l4", "e2")  # moved to another endpoint: not a new decision
    report = await world.report()
    assert (report.decisions, report.skipped) == (1, 3)
    assert dict(report.skipped_by) == {
        "no-descriptor": 1,
        "unscheduled": 1,
        "unknown-endpoint": 1,
    }
    labels = {"pool": POOL, "reason": "unscheduled"}
    value = world.metrics.registry.get_sample_value("pointsman_shadow_skipped_total", labels)
    assert value == 1.0


async def test_a_share_of_the_picks_can_be_enough(worlds: list[World]) -> None:
    world = await started(worlds, shadow_fraction=0.25)
    for number in range(400):
        world.picked(f"l{number}", "e1")
    report = await world.report()
    assert 60 < report.decisions < 140
    assert report.skipped_by["not-sampled"] == 400 - report.decisions


async def test_a_policy_that_raises_harms_nothing_but_its_own_figures(
    worlds: list[World],
) -> None:
    world = await started(worlds, a_config("broken-scorer"))
    world.picked("l1", "e1")
    assert world.runner.leases.load("e1").requests == 1
    report = await world.report()
    assert (report.decisions, dict(report.skipped_by)) == (0, {"failed": 1})


async def test_lost_messages_are_counted_and_mended_without_asking_anybody(
    worlds: list[World],
) -> None:
    world = await started(worlds)
    world.picked("l1", "e1")
    world.picked("l2", "e1")
    world.finished("l1")
    world.lose_one(subjects.request_finished(POOL))
    world.finished("l3")
    assert world.runner.leases.load("e1").requests == 0
    world.picked("l4", "e1")
    assert world.runner.leases.load("e1").requests == 1
    assert (await world.report()).missed == 1
    said = {subject for subject, _ in world.bus.published if ".request." not in subject}
    assert said == {subjects.shadow(POOL, "canary")}


async def test_blocks_that_were_told_before_it_started_are_learnt_from_descriptors(
    worlds: list[World],
) -> None:
    world = await started(worlds)
    event = RequestPicked(lease=Lease(lease_id="l1", endpoint_uid="e2"), first_block=9)
    event.descriptor.CopyFrom(a_descriptor("l1", prompt_tokens=640, block_hashes=range(10)))
    event.prompt_block_hashes = pack_block_hashes([9])
    world.tell(subjects.request_picked(POOL), picked=[event])
    world.finished("l1")
    world.picked("l2", "e2", blocks=range(10))
    report = await world.report()
    assert report.hit_ratio_production == pytest.approx(639 / 1280)


async def test_the_upstream_default_is_compared_by_a_yardstick_that_predicts(
    worlds: list[World],
) -> None:
    world = await started(worlds, DEFAULT_CONFIG)
    world.picked("l1", "e1")
    assert (await world.report()).mean_predicted_ttft_production_s > 0.0
