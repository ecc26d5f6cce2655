"""The batch knows when each sequence ends and needs a block, without looking at each."""

from pointsman_simulator.core.decode_batch import DecodeBatch
from pointsman_simulator.core.engine_events import EngineRequest
from pointsman_simulator.core.sequence import Phase, Sequence


def prefilled(name: str, prompt: int, output: int, *, streamed: bool = False) -> Sequence:
    request = EngineRequest(
        request_id=name, prompt_tokens=prompt, output_tokens=output, streamed=streamed
    )
    return Sequence(request, arrived_at=0.0, prefill_tokens=prompt, generated=1)


def step(batch: DecodeBatch) -> None:
    batch.start_step()
    batch.end_step()


def test_context_grows_by_a_token_for_each_sequence_and_step() -> None:
    batch = DecodeBatch(block_size=4)
    batch.join(prefilled("a", 10, 5))
    batch.join(prefilled("b", 20, 5))
    assert (batch.size, batch.context) == (2, 11 + 21)
    step(batch)
    assert batch.context == 12 + 22


def test_a_sequence_ends_when_its_last_token_is_out() -> None:
    batch = DecodeBatch(block_size=4)
    a = prefilled("a", 10, 3)
    batch.join(a)
    assert batch.next_ending() == 2
    step(batch)
    assert batch.pop_ended() is None
    step(batch)
    assert batch.pop_ended() is a
    batch.leave(a, Phase.GONE)
    assert (a.generated, batch.size, batch.context) == (3, 0, 0)


def test_endings_of_sequences_that_left_are_forgotten() -> None:
    batch = DecodeBatch(block_size=4)
    a, b = prefilled("a", 10, 3), prefilled("b", 10, 9)
    batch.join(a)
    batch.join(b)
    batch.leave(a, Phase.GONE)
    assert batch.next_ending() == 8


def test_a_block_is_needed_when_the_held_ones_are_full() -> None:
    batch = DecodeBatch(block_size=4)
    batch.join(prefilled("a", 8, 20))  # two full blocks: the first decode needs a third
    batch.join(prefilled("b", 7, 20))  # room for one more
    needed = []
    for _ in range(6):
        needed.append(batch.blocks_for_next_step())
        step(batch)
    assert needed == [1, 1, 0, 0, 1, 1]


def test_skipping_steps_is_the_same_as_taking_them() -> None:
    slow, fast = DecodeBatch(block_size=4), DecodeBatch(block_size=4)
    for batch in (slow, fast):
        batch.join(prefilled("a", 8, 50))
        batch.join(prefilled("b", 5, 50))
        batch.start_step()
    blocks = 0
    for _ in range(11):
        slow.end_step()
        blocks += slow.blocks_for_next_step()
        slow.start_step()
    assert fast.skip_steps(11) == blocks <= fast.most_blocks_for(11)
    assert fast.context == slow.context
    assert (fast.steps_started, fast.steps_done) == (slow.steps_started, slow.steps_done)


def test_only_streamed_sequences_are_listed_as_streaming() -> None:
    batch = DecodeBatch(block_size=4)
    a = prefilled("a", 8, 5, streamed=True)
    batch.join(a)
    batch.join(prefilled("b", 8, 5))
    assert list(batch.streaming) == ["a"]
    batch.leave(a, Phase.WAITING)
    assert not batch.streaming
