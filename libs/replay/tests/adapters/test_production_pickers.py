"""The production scheduler in virtual time: it decides as its service does."""

from copy import deepcopy

import pytest

from pointsman_common.contracts.scheduling_pb2 import Picked, PickRequest, PickResponse
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_replay.adapters.policy_catalogue import PRODUCTION
from pointsman_replay.adapters.production_pickers import POOL, PickerOptions, ProductionPickers
from pointsman_replay.adapters.virtual_bus import BusTiming
from pointsman_replay.core.generated_trace import generate_trace
from pointsman_replay.core.policies.policy import BuildPolicy, Surroundings
from pointsman_replay.core.replay_run import ReplayRun, RunResult
from pointsman_replay.core.trace import Trace, TraceRequest, scaled_to_span
from pointsman_scheduler.adapters.receipt_publisher import ReceiptPublisher
from pointsman_scheduler.adapters.scheduling_rpc_server import SchedulingHook
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.settings import SchedulerSettings
from pointsman_simulator.core.engine_profile import H100_8B

TRACE = scaled_to_span(generate_trace(300, 1), 20.0)


def built(policy: str, options: PickerOptions | None = None) -> BuildPolicy:
    def build(surroundings: Surroundings) -> ProductionPickers:
        return ProductionPickers(surroundings, PRODUCTION[policy], options or PickerOptions())

    return build


def a_run(
    policy: str = "pointsman", options: PickerOptions | None = None, *, seed: str = "1"
) -> tuple[ReplayRun, ProductionPickers]:
    run = ReplayRun(TRACE, H100_8B, 3, built(policy, options), seed=seed)
    assert isinstance(run.policy, ProductionPickers)
    return run, run.policy


def rows(result: RunResult) -> list[int]:
    return [one.row for one in result.served]


@pytest.mark.parametrize("policy", PRODUCTION)
def test_the_same_seed_picks_the_same_endpoints(policy: str) -> None:
    assert a_run(policy)[0].run() == a_run(policy)[0].run()


def test_another_seed_breaks_ties_another_way() -> None:
    assert rows(a_run(seed="1")[0].run()) != rows(a_run(seed="2")[0].run())


def test_no_lease_is_left_when_all_answers_have_ended() -> None:
    run, policy = a_run(options=PickerOptions(pickers=3))
    run.run()
    [leftover] = {len(picker.leases) for picker in policy.pickers}
    assert leftover <= 1  # the last end is still on the bus


def test_a_conversation_stays_where_its_prefix_is() -> None:
    chain = tuple(range(40))
    requests = tuple(TraceRequest(float(at), 40 * 64 + 5, 20, chain) for at in range(8))
    run = ReplayRun(Trace("t", 64, requests), H100_8B, 3, built("pointsman"), seed="1")
    assert len(set(rows(run.run()))) == 1


def test_a_burst_at_one_instant_spreads_over_the_endpoints() -> None:
    requests = tuple(TraceRequest(0.0, 4000, 20) for _ in range(9))
    run = ReplayRun(Trace("t", 0, requests), H100_8B, 3, built("pointsman"), seed="1")
    assert sorted(rows(run.run())) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_several_pickers_learn_each_others_picks_from_the_bus() -> None:
    """Requests of one prompt go to one endpoint only if the pickers know of each other."""
    chain = tuple(range(40))
    requests = tuple(TraceRequest(float(at), 40 * 64 + 5, 20, chain) for at in range(12))
    options = PickerOptions(pickers=4)
    run = ReplayRun(Trace("t", 64, requests), H100_8B, 8, built("pointsman", options), seed="1")
    assert len(set(rows(run.run()))) == 1


def test_a_bus_that_loses_everything_leaves_each_picker_with_its_own_picks() -> None:
    chain = tuple(range(40))
    requests = tuple(TraceRequest(float(at), 40 * 64 + 5, 20, chain) for at in range(12))
    options = PickerOptions(pickers=4, bus=BusTiming(0.002, 1.0))
    run = ReplayRun(Trace("t", 64, requests), H100_8B, 8, built("pointsman", options), seed="1")
    assert len(set(rows(run.run()))) > 1


def test_lost_messages_are_noticed_and_mended() -> None:
    run, policy = a_run(options=PickerOptions(pickers=2, bus=BusTiming(0.002, 0.1)))
    run.run()
    assert all(picker.subscriber.gaps > 0 for picker in policy.pickers)
    # Without mending, about a tenth of 300 leases would stay for good.
    assert all(len(picker.leases) <= 3 for picker in policy.pickers)


class HookBeside(ProductionPickers):
    """Before every tenth pick, asks the service's hook about a copy of the picker's state."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings, PRODUCTION["pointsman"], PickerOptions())
        self.answers: list[tuple[Picked, int | None]] = []

    def pick(self, number: int, request: TraceRequest) -> int | None:
        if number % 10:
            return super().pick(number, request)
        [picker] = self.pickers
        picker.read_metrics(self.timeline.now)
        clock = VirtualClock(monotonic=self.timeline.now)
        metrics, bus = Metrics(), InMemoryBus()
        stamp = EnvelopeStamp("scheduler/beside", clock)
        receipts = ReceiptPublisher(bus, clock, stamp, metrics, SchedulerSettings(receipts="off"))
        hook = SchedulingHook(clock, deepcopy(picker.picking), receipts, metrics)
        question = PickRequest(descriptor=self.describe(number, request), lease_id=str(number))
        answer = PickResponse.FromString(hook(question.SerializeToString()))
        row = super().pick(number, request)
        self.answers.append((answer.picked, row))
        return row


def test_the_scheduler_picks_under_replay_as_its_hook_does_from_the_same_state() -> None:
    run = ReplayRun(TRACE, H100_8B, 3, HookBeside, seed="1")
    run.run()
    assert isinstance(run.policy, HookBeside)
    answers = run.policy.answers
    assert len(answers) == len(TRACE.requests) / 10
    assert [int(picked.endpoints[0].uid) for picked, _ in answers] == [row for _, row in answers]
    assert len({row for _, row in answers}) == 3
    assert sum(picked.cached_tokens > 0 for picked, _ in answers) > 10


def test_the_pool_is_introduced_with_what_its_engines_report() -> None:
    run, policy = a_run()
    record = policy.pickers[0].view.get(POOL)
    assert record is not None
    assert [one.uid for one in record.ready_endpoints()] == ["0", "1", "2"]
    metrics = record.endpoints["0"].metrics
    assert metrics.kv_cache_blocks == run.pool.profile.total_blocks
    assert (metrics.block_size_tokens, metrics.waiting_requests) == (64, 0)
    policy.close()
