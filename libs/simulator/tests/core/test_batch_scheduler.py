"""What a step holds: order, budget, and the reasons to wait."""

import msgspec
import pytest

from pointsman_simulator.core.batch_scheduler import BatchScheduler, StepPlan
from pointsman_simulator.core.engine_events import EngineRequest
from pointsman_simulator.core.engine_profile import H100_8B, EngineProfile
from pointsman_simulator.core.kv_block_pool import KvBlockPool
from pointsman_simulator.core.lora_slots import LoraSlots
from pointsman_simulator.core.sequence import Sequence

PROFILE = msgspec.structs.replace(
    H100_8B, kv_tokens=400, block_size=4, step_budget_tokens=64, max_sequences=4, max_loras=1
)


def scheduler_of(profile: EngineProfile) -> BatchScheduler:
    return BatchScheduler(profile, KvBlockPool(profile.total_blocks), LoraSlots(profile.max_loras))


def sequence(name: str, prompt: int, lora: str | None = None) -> Sequence:
    request = EngineRequest(request_id=name, prompt_tokens=prompt, output_tokens=9, lora=lora)
    return Sequence(request, arrived_at=0.0)


def chunks(plan: StepPlan) -> list[tuple[str, int]]:
    return [(sequence.request.request_id, chunk) for sequence, chunk in plan.chunks]


def waiting(scheduler: BatchScheduler) -> list[str]:
    return [sequence.request.request_id for sequence in scheduler.waiting]


def end_step(plan: StepPlan, scheduler: BatchScheduler) -> None:
    """Do what the engine does between two plans."""
    scheduler.decodes.start_step()
    scheduler.decodes.end_step()
    for one, chunk in plan.chunks:
        one.computed_tokens += chunk
        if one.computed_tokens == one.prefill_tokens:
            one.generated += 1
            scheduler.start_decoding(one)


def test_requests_are_admitted_in_order_while_the_budget_lasts() -> None:
    scheduler = scheduler_of(PROFILE)
    for name in ("a", "b", "c"):
        scheduler.enqueue(sequence(name, 40))
    plan = scheduler.plan_step(0.0)
    assert chunks(plan) == [("a", 40), ("b", 24)]
    assert waiting(scheduler) == ["c"]
    end_step(plan, scheduler)
    # a decodes (1 token), b has 16 to go, c gets the rest.
    assert chunks(scheduler.plan_step(1.0)) == [("b", 16), ("c", 40)]


def test_no_more_requests_run_than_there_are_sequences() -> None:
    scheduler = scheduler_of(PROFILE)
    for index in range(6):
        scheduler.enqueue(sequence(str(index), 4))
    scheduler.plan_step(0.0)
    assert list(scheduler.running) == ["0", "1", "2", "3"]


def test_a_prompt_that_does_not_fit_waits_and_nobody_passes_it() -> None:
    scheduler = scheduler_of(msgspec.structs.replace(PROFILE, step_budget_tokens=1000))
    for name, prompt in (("a", 200), ("b", 240), ("c", 4)):
        scheduler.enqueue(sequence(name, prompt))
    assert chunks(scheduler.plan_step(0.0)) == [("a", 200)]
    assert waiting(scheduler) == ["b", "c"]
    scheduler.remove(scheduler.running["a"])
    assert chunks(scheduler.plan_step(1.0)) == [("b", 240), ("c", 4)]


@pytest.mark.parametrize(("prompt", "admitted"), [(196, True), (197, False)])
def test_a_newcomer_leaves_the_reserve_free(prompt: int, admitted: bool) -> None:
    profile = msgspec.structs.replace(PROFILE, step_budget_tokens=1000)
    scheduler = scheduler_of(profile)  # of 100 blocks, 1 is reserved
    scheduler.enqueue(sequence("a", 200))
    scheduler.enqueue(sequence("b", prompt))
    scheduler.plan_step(0.0)
    assert ("b" in scheduler.running) == admitted


def test_a_request_without_an_adapter_slot_is_passed_over_and_keeps_its_place() -> None:
    scheduler = scheduler_of(PROFILE)
    for name, lora in (("a", "x"), ("b", "y"), ("c", "x"), ("d", None)):
        scheduler.enqueue(sequence(name, 4, lora))
    plan = scheduler.plan_step(0.0)
    assert (plan.deferred, plan.lora_loads) == (1, 1)
    assert list(scheduler.running) == ["a", "c", "d"]
    assert waiting(scheduler) == ["b"]
    scheduler.remove(scheduler.running["a"])
    scheduler.remove(scheduler.running["c"])
    assert scheduler.plan_step(1.0).lora_loads == 1
    assert list(scheduler.running) == ["d", "b"]


def test_preempted_requests_go_to_the_head_in_their_order_and_nobody_is_admitted() -> None:
    profile = msgspec.structs.replace(PROFILE, kv_tokens=24, admission_reserve=0.0)
    scheduler = scheduler_of(profile)  # 6 blocks
    for name in ("a", "b", "c", "d"):
        scheduler.enqueue(sequence(name, 8))
    plan = scheduler.plan_step(0.0)
    assert list(scheduler.running) == ["a", "b", "c"]
    end_step(plan, scheduler)
    plan = scheduler.plan_step(1.0)  # each of the three needs a third block
    assert [one.request.request_id for one in plan.preempted] == ["c"]
    assert waiting(scheduler) == ["c", "d"]
    assert list(scheduler.running) == ["a", "b"]
    assert plan.chunks == []


def test_a_waiting_request_can_be_removed() -> None:
    scheduler = scheduler_of(PROFILE)
    one = sequence("a", 4, "x")
    scheduler.enqueue(one)
    scheduler.remove(one)
    assert not scheduler.plan_step(0.0).chunks
