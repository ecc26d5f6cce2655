import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pointsman_common import subjects
from pointsman_common.contract_codec import encode_endpoint
from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt, PickRequest, PickResponse
from pointsman_common.decision_receipts import shown_candidates, unfold_receipts
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.identity import description
from pointsman_common.rpc_server import RpcServer
from pointsman_common.testing.builders import POOL, a_descriptor, a_snapshot, an_endpoint
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock, settle
from pointsman_scheduler.adapters.receipt_publisher import ReceiptPublisher
from pointsman_scheduler.adapters.scheduling_rpc_server import PICK, SchedulingHook
from pointsman_scheduler.core.config import COST_CONFIG
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.settings import SchedulerSettings
from pointsman_scheduler.testing import Desk, a_config
from wire import Channel, RpcError, RpcStatus


@dataclass
class Bench:
    clock: VirtualClock
    hook: SchedulingHook
    bus: InMemoryBus
    metrics: Metrics
    publisher: ReceiptPublisher
    desk: Desk

    def ask(self, descriptor: RequestDescriptor | None = None, **fields: object) -> PickResponse:
        question = PickRequest(descriptor=descriptor or a_descriptor(), **fields)  # type: ignore[arg-type]  # a message's own fields
        return PickResponse.FromString(self.hook(question.SerializeToString()))

    def receipts(self) -> list[DecisionReceipt]:
        sent = self.bus.sent(subjects.decision(POOL))
        return [receipt for payload in sent for receipt in unfold_receipts(payload)]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def a_bench(*indexes: int, config: str = COST_CONFIG, **settings: object) -> Bench:
    clock, bus, metrics = VirtualClock(), InMemoryBus(), Metrics()
    desk = Desk([an_endpoint(index) for index in indexes], config)
    told = SchedulerSettings(**settings)  # type: ignore[arg-type]  # as given
    publisher = ReceiptPublisher(bus, clock, EnvelopeStamp("scheduler/test", clock), metrics, told)
    hook = SchedulingHook(clock, desk.picking, publisher, metrics)
    return Bench(clock, hook, bus, metrics, publisher, desk)


def test_the_answer_names_endpoints_tokens_and_profile() -> None:
    picked = a_bench(1, 2).ask(lease_id="l1", want_scores=True).picked
    assert len(picked.endpoints) == 2
    assert picked.endpoints[0].address.startswith("10.0.0.")
    assert picked.prefill_tokens == 100
    assert picked.predicted_ttft_s > 0
    assert picked.profile == "default"
    assert dict(picked.scores) == {"10.0.0.1:8000": 1.0, "10.0.0.2:8000": 1.0}
    assert picked.decision_id == "desk-1"


def test_headers_for_the_client_come_with_the_answer() -> None:
    assert not a_bench(1).ask().picked.HasField("response_headers")
    bench = a_bench(1, config=a_config("session-affinity-scorer"))
    [header] = bench.ask().picked.response_headers.set
    assert header.key == "x-session-token"
    assert b64decode(header.value) == b"default/pod-1-rank-0"


def test_scores_are_told_only_when_asked() -> None:
    assert not a_bench(1).ask().picked.scores


def test_headers_that_only_the_scheduler_may_set_are_removed() -> None:
    assert "x-prefiller-host-port" in a_bench(1).ask().picked.headers.remove


@pytest.mark.parametrize(
    ("bench", "descriptor", "status", "reason"),
    [
        (a_bench(), a_descriptor(), 503, "rejected-no-endpoints"),
        (a_bench(1), a_descriptor(subset=[]), 503, "rejected-no-endpoints"),
        (a_bench(1), a_descriptor(pool="default/none"), 503, "rejected-no-endpoints"),
        (a_bench(1), RequestDescriptor(pool=POOL, cached_only=True), 412, ""),
    ],
)
def test_a_refusal_is_a_value(
    bench: Bench, descriptor: RequestDescriptor, status: int, reason: str
) -> None:
    rejection = bench.ask(descriptor).rejection
    assert (rejection.http_status, rejection.reason) == (status, reason)
    failed = bench.sample(
        "llm_d_epp_scheduler_attempts_total",
        status="failure",
        target_model_name=descriptor.target_model,
        endpoint_name="",
        namespace="",
        port="",
    )
    assert failed == 1.0


def test_candidates_in_the_question_are_used() -> None:
    bench = a_bench(1)
    given = encode_endpoint(an_endpoint(9), 1_000.0)
    assert bench.ask(candidates=[given]).picked.endpoints[0].uid == "e9"


def test_a_pick_is_counted() -> None:
    bench = a_bench(1)
    bench.ask(a_descriptor(block_hashes=[1]))
    bench.ask(a_descriptor(block_hashes=[1]))
    went = bench.sample(
        "llm_d_epp_scheduler_attempts_total",
        status="success",
        target_model_name="llama",
        endpoint_name="pod-1-rank-0",
        namespace="default",
        port="8000",
    )
    assert went == 2.0
    assert bench.sample("llm_d_epp_scheduler_e2e_duration_seconds_count") == 2.0
    labels = dict.fromkeys(("plugin_name", "plugin_type"), "approx-prefix-cache-producer")
    assert bench.sample("llm_d_epp_prefix_indexer_hit_ratio_sum", **labels) == 1.0


async def test_receipts_are_published_after_the_answer() -> None:
    bench = a_bench(1)
    running = asyncio.create_task(bench.publisher.run())
    decision_id = bench.ask(lease_id="l1").picked.decision_id
    assert not bench.receipts()
    await bench.publisher.drain(1.0)
    [receipt] = bench.receipts()
    assert receipt.decision_id == decision_id
    assert receipt.decided_at == 1_700_000_000.0
    [shown] = shown_candidates(receipt, receipt.candidate_set)
    assert shown.in_flight_requests == 0
    bench.ask()
    await settle()
    assert len(bench.receipts()) == 2
    running.cancel()
    await asyncio.wait([running])


async def test_no_receipts_no_decision_ids() -> None:
    bench = a_bench(1, receipts="off")
    assert not bench.ask().picked.decision_id
    await bench.publisher.drain(1.0)
    assert not bench.receipts()


async def test_a_pool_that_does_not_exist_has_no_receipts() -> None:
    bench = a_bench(1)
    bench.ask(a_descriptor(pool="default/none"))
    await bench.publisher.drain(1.0)
    assert not bench.bus.published


async def test_a_sample_of_receipts_is_published() -> None:
    bench = a_bench(1, receipts="sampled", receipts_fraction=0.3)
    told = [bool(bench.ask().picked.decision_id) for _ in range(400)]
    await bench.publisher.drain(1.0)
    assert sum(told) == len(bench.receipts())
    assert 80 < sum(told) < 160


async def test_receipts_are_gathered_under_load_and_go_at_once_when_idle() -> None:
    bench = a_bench(1, gather_receipts_s=0.002)
    running = asyncio.create_task(bench.publisher.run())
    sent = []
    for asked in (1, 3):
        for _ in range(asked):
            bench.ask()
        await settle()
        sent.append((len(bench.bus.published), len(bench.receipts())))
    await bench.clock.advance(0.002)
    sent.append((len(bench.bus.published), len(bench.receipts())))
    assert sent == [(1, 1), (1, 1), (2, 4)]
    first, *others = bench.receipts()
    assert first.HasField("candidate_set")
    assert [one.HasField("candidate_set") for one in others] == [True, False, False]
    assert [one.decision_id for one in others] == ["desk-2", "desk-3", "desk-4"]
    running.cancel()
    await asyncio.wait([running])


async def test_receipts_of_several_pools_go_on_their_own_subjects() -> None:
    bench = a_bench(1)
    bench.desk.view.apply_snapshot(a_snapshot([], pool="default/other"), 1_000.0)
    for pool in (POOL, "default/other", POOL):
        bench.ask(a_descriptor(pool=pool))
    await bench.publisher.drain(1.0)
    assert [subjects.pool_of(subject) for subject, _ in bench.bus.published] == [
        *(POOL, "default/other", POOL)
    ]


async def test_a_sample_always_holds_refusals_and_foreseen_slo_misses() -> None:
    bench = a_bench(1, receipts="sampled", receipts_fraction=0.0)
    bench.ask()
    late = a_descriptor(prompt_tokens=100_000)
    late.ttft_slo_ms = 10
    assert bench.ask(late).picked.decision_id
    late.ttft_slo_ms = 1_000_000
    bench.ask(late)
    bench.ask(a_descriptor(subset=[]))
    await bench.publisher.drain(1.0)
    slow, refused = bench.receipts()
    assert slow.descriptor.ttft_slo_ms == 10
    assert refused.HasField("rejection")


async def test_too_many_waiting_receipts_drop_the_oldest() -> None:
    bench = a_bench(1, receipts_waiting=2)
    ids = [bench.ask().picked.decision_id for _ in range(5)]
    await bench.publisher.drain(1.0)
    assert [receipt.decision_id for receipt in bench.receipts()] == ids[-2:]
    assert bench.sample("pointsman_scheduler_receipts_dropped_total") == 3.0


@pytest.fixture
async def served() -> AsyncIterator[tuple[Channel, Bench]]:
    bench = a_bench(1, 2)
    server = RpcServer(
        "127.0.0.1:0",
        {PICK: bench.hook},
        describe=lambda: description("scheduler", "scheduler/test/1"),
        ready=lambda: True,
    )
    running = asyncio.create_task(server.run())
    while not server.bound:
        await settle()
    channel = Channel(server.bound[0])
    yield channel, bench
    await channel.close()
    running.cancel()
    await asyncio.wait([running])


async def test_it_is_served_over_grpc(served: tuple[Channel, Bench]) -> None:
    channel, _ = served
    question = PickRequest(descriptor=a_descriptor())
    reply = await channel.unary(PICK, question.SerializeToString(), timeout_s=5.0)
    assert PickResponse.FromString(reply).picked.endpoints


async def test_nonsense_is_an_invalid_argument(served: tuple[Channel, Bench]) -> None:
    channel, _ = served
    with pytest.raises(RpcError) as failed:
        await channel.unary(PICK, b"\xff\xff\xff", timeout_s=5.0)
    assert failed.value.status is RpcStatus.INVALID_ARGUMENT
