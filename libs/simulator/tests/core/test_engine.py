"""Times and events of the engine, worked out by hand.

The profile's constants are binary fractions, so that the expected times are exact:
a step takes 1 + max(2, tokens/64) + decodes/8 + context/16 + chunks/1024 seconds.
"""

import msgspec
import pytest

from pointsman_simulator.core.engine import Engine
from pointsman_simulator.core.engine_events import (
    BlocksStored,
    EngineRequest,
    Event,
    Finished,
    FirstToken,
    Preempted,
    Tokens,
)
from pointsman_simulator.core.engine_profile import EngineProfile

PROFILE = EngineProfile(
    name="exact",
    step_overhead_s=1.0,
    weights_s=2.0,
    token_s=1 / 64,
    decode_s=1 / 8,
    context_s=1 / 16,
    attention_s=1 / 1024,
    kv_tokens=4096,
    block_size=4,
    step_budget_tokens=256,
    max_sequences=8,
    admission_reserve=0.0,
    max_loras=1,
    lora_load_s=0.5,
)


def request(
    name: str,
    prompt: int,
    output: int,
    *,
    hashes: tuple[int, ...] = (),
    lora: str | None = None,
    streamed: bool = False,
) -> EngineRequest:
    return EngineRequest(
        request_id=name,
        prompt_tokens=prompt,
        output_tokens=output,
        block_hashes=hashes,
        lora=lora,
        streamed=streamed,
    )


def run(engine: Engine) -> list[Event]:
    """Follow the engine's own hints until it has nothing left to do."""
    events: list[Event] = []
    while (due := engine.next_event_at()) is not None:
        events += engine.advance(due)
    return events


def first_tokens(events: list[Event]) -> dict[str, FirstToken]:
    return {event.request_id: event for event in events if isinstance(event, FirstToken)}


def finishes(events: list[Event]) -> dict[str, Finished]:
    return {event.request_id: event for event in events if isinstance(event, Finished)}


def test_a_request_alone_takes_its_prefill_and_a_step_for_each_further_token() -> None:
    engine = Engine(PROFILE)
    engine.submit(request("a", 100, 3), 10.0)
    events = run(engine)
    # prefill 1 + 2 + 100*50/1024 = 7.8828125; decodes 1 + 2 + 1/8 + 101/16, then 102/16
    assert events == [
        FirstToken("a", 17.8828125, 10.0, 0),
        Finished(
            request_id="a",
            at=17.8828125 + 9.4375 + 9.5,
            arrived_at=10.0,
            admitted_at=10.0,
            first_token_at=17.8828125,
            prompt_tokens=100,
            cached_tokens=0,
            output_tokens=3,
            preemptions=0,
        ),
    ]


def test_many_tokens_outweigh_the_weights() -> None:
    engine = Engine(PROFILE)
    engine.submit(request("a", 256, 1), 0.0)
    # 1 + 256/64 + 256*128/1024
    assert finishes(run(engine))["a"].at == 1 + 4 + 32


def test_a_prompt_over_the_budget_is_prefilled_in_chunks() -> None:
    engine = Engine(msgspec.structs.replace(PROFILE, step_budget_tokens=64))
    engine.submit(request("a", 100, 1), 0.0)
    # chunks of 64 and 36: 3 + 64*32/1024, then 3 + 36*(64 + 18)/1024
    assert finishes(run(engine))["a"].at == 5.0 + 5.8828125


def test_a_decode_and_a_prefill_share_a_step() -> None:
    engine = Engine(PROFILE)
    engine.submit(request("a", 64, 3), 0.0)  # first token at 3 + 64*32/1024 = 5
    engine.submit(request("b", 32, 1), 1.0)  # waits for the step to end
    events = run(engine)
    # one decode with context 65 and 32 new tokens: 3 + 1/8 + 65/16 + 32*16/1024 = 7.6875
    assert first_tokens(events)["b"] == FirstToken("b", 12.6875, 1.0, 0)
    assert finishes(events)["b"].admitted_at == 5.0
    # then alone with context 66
    assert finishes(events)["a"].at == 12.6875 + 3 + 1 / 8 + 66 / 16


def test_a_cached_prefix_is_not_computed_again() -> None:
    engine = Engine(PROFILE)
    prompt = tuple(range(25))
    engine.submit(request("a", 100, 1, hashes=prompt), 0.0)
    run(engine)
    engine.submit(request("b", 102, 1, hashes=prompt), 100.0)
    events = run(engine)
    # 100 of 102 tokens are cached: 3 + 2*(100 + 1)/1024
    assert first_tokens(events)["b"] == FirstToken("b", 103.197265625, 100.0, 100)
    stats = engine.stats(200.0)
    assert (stats.prefix_query_tokens, stats.prefix_hit_tokens) == (202, 100)


def test_the_block_with_the_last_token_is_always_computed() -> None:
    engine = Engine(PROFILE)
    prompt = tuple(range(25))
    for name in ("a", "b"):
        engine.submit(request(name, 100, 1, hashes=prompt), engine.stats(0.0).busy_s)
        events = run(engine)
    assert first_tokens(events)["b"].cached_tokens == 96
    assert engine.used_blocks == 0
    assert engine.stats(100.0).cached_blocks == 25


def test_requests_admitted_together_share_their_prefix() -> None:
    engine = Engine(PROFILE)
    engine.submit(request("0", 4, 1), 0.0)
    for name in ("a", "b"):
        engine.submit(request(name, 10, 2, hashes=(1, 2)), 0.0)
    engine.advance(5.0)
    assert engine.used_blocks == 2 + 1 + 1
    assert first_tokens(run(engine))["b"].cached_tokens == 8


def test_the_time_factor_stretches_every_step() -> None:
    engine = Engine(PROFILE, time_factor=2.0)
    engine.submit(request("a", 100, 3), 0.0)
    assert finishes(run(engine))["a"].at == 2 * (7.8828125 + 9.4375 + 9.5)


def test_an_adapter_is_loaded_in_the_step_that_first_needs_it() -> None:
    engine = Engine(PROFILE)
    engine.submit(request("a", 64, 1, lora="sql"), 0.0)
    engine.submit(request("b", 64, 1, lora="sql"), 0.0)
    events = run(engine)
    assert finishes(events)["a"].at == 5.5
    assert finishes(events)["b"].at == 10.5


def test_a_stream_is_told_of_every_token_and_a_late_caller_gets_them_together() -> None:
    engine = Engine(PROFILE)
    engine.submit(request("a", 64, 6, streamed=True), 0.0)
    assert engine.advance(4.0) == []
    assert engine.advance(5.0) == [FirstToken("a", 5.0, 0.0, 0)]
    second = 5.0 + 3 + 1 / 8 + 65 / 16
    third = second + 3 + 1 / 8 + 66 / 16
    assert engine.advance(second) == [Tokens("a", second, 1)]
    fourth = third + 3 + 1 / 8 + 67 / 16
    assert engine.advance(fourth + 1) == [Tokens("a", fourth, 2)]
    tokens, finished = engine.advance(1000.0)
    assert isinstance(finished, Finished)
    assert tokens == Tokens("a", finished.at, 2)


def test_while_nobody_streams_the_next_event_is_the_next_ending() -> None:
    engine = Engine(PROFILE)
    engine.submit(request("a", 64, 40), 0.0)
    assert engine.next_event_at() == 5.0
    engine.advance(5.0)
    expected = 5.0 + sum(3 + 1 / 8 + context / 16 for context in range(65, 65 + 39))
    assert engine.next_event_at() == expected
    assert finishes(engine.advance(expected))["a"].at == expected
    assert engine.next_event_at() is None


def test_no_work_means_no_next_event() -> None:
    engine = Engine(PROFILE)
    assert engine.next_event_at() is None
    assert engine.advance(5.0) == []


def test_want_of_blocks_preempts_the_youngest_which_is_computed_again() -> None:
    # 8 blocks of 4. Each holds 3 blocks after its prefill of 12; each token from the 13th to the
    # 16th fits a fourth block, the 17th needs a fifth: then the younger has to go.
    engine = Engine(msgspec.structs.replace(PROFILE, kv_tokens=32))
    engine.submit(request("0", 4, 1), 0.0)
    engine.submit(request("a", 12, 10), 0.0)
    engine.submit(request("b", 12, 8), 0.0)
    events = run(engine)
    preempted = [event for event in events if isinstance(event, Preempted)]
    assert [event.request_id for event in preempted] == ["b"]
    done = finishes(events)
    assert (done["a"].preemptions, done["b"].preemptions) == (0, 1)
    assert done["a"].at < done["b"].at
    assert (done["a"].output_tokens, done["b"].output_tokens) == (10, 8)
    # b had 5 tokens when it went; with them 17 are prefilled, at once when a is done.
    again = 3 + 17 * 8.5 / 1024
    decodes = sum(3 + 1 / 8 + context / 16 for context in (18, 19))
    assert done["b"].at == done["a"].at + again + decodes
    assert preempted[0].at < done["a"].at
    assert engine.stats(0.0).preemptions == 1


def test_an_aborted_request_is_gone_and_its_blocks_are_free() -> None:
    engine = Engine(PROFILE)
    engine.submit(request("a", 64, 10), 0.0)
    engine.submit(request("b", 64, 10), 0.0)
    assert engine.abort("b", 1.0)  # waiting
    assert engine.abort("a", 6.0)  # decoding
    assert not engine.abort("a", 6.0)
    assert (engine.used_blocks, engine.load) == (0, (0, 0))
    assert [event.request_id for event in run(engine)] == ["a"]  # its first token, at 5
    stats = engine.stats(100.0)
    assert (stats.aborted, stats.finished, stats.running) == (2, 0, 0)


def test_an_abort_in_the_prefill_keeps_what_was_computed_and_the_length_of_the_step() -> None:
    engine = Engine(msgspec.structs.replace(PROFILE, step_budget_tokens=64))
    engine.submit(request("a", 100, 5, hashes=tuple(range(25))), 0.0)
    engine.abort("a", 1.0)
    assert engine.used_blocks == 0
    assert engine.next_event_at() == 5.0
    assert engine.advance(5.0) == []
    assert engine.stats(5.0).cached_blocks == 16


def test_gauges_show_the_last_finished_step() -> None:
    engine = Engine(msgspec.structs.replace(PROFILE, max_sequences=1))
    engine.submit(request("a", 64, 2, lora="x"), 0.0)
    engine.submit(request("b", 64, 2, lora="y"), 1.0)
    stats = engine.stats(4.0)
    assert (stats.running, stats.waiting, stats.kv_usage) == (0, 0, 0.0)
    assert engine.load == (1, 1)
    stats = engine.stats(6.0)  # b was not there when the step that has ended was planned
    assert (stats.running, stats.waiting, stats.kv_usage) == (1, 0, 16 / 1024)
    assert (stats.running_loras, stats.waiting_loras) == (("x",), ("y",))
    assert (stats.prompt_tokens, stats.generation_tokens) == (64, 1)
    stats = engine.stats(5.5 + 3 + 1 / 8 + 65 / 16)
    assert (stats.running, stats.waiting) == (0, 1)
    run(engine)
    stats = engine.stats(1000.0)
    assert (stats.running, stats.waiting, stats.kv_usage) == (0, 0, 0.0)
    assert (stats.finished, stats.steps, stats.generation_tokens) == (2, 4, 4)


def test_kv_events_tell_what_entered_the_cache() -> None:
    engine = Engine(PROFILE, record_kv_events=True)
    engine.submit(request("a", 10, 1, hashes=(7, 8)), 0.0)
    assert engine.drain_kv_events() == [BlocksStored((7, 8), None, "a", 0)]
    assert engine.drain_kv_events() == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (request("a", 4, 1), "already here"),
        (request("b", 0, 1), "at least one"),
        (request("b", 4, 0), "at least one"),
        (request("b", 7, 1, hashes=(1, 2)), "more block hashes"),
        (request("b", 4096, 1), "never fit"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(bad: EngineRequest, reason: str) -> None:
    engine = Engine(PROFILE)
    engine.submit(request("a", 4, 1), 0.0)
    with pytest.raises(ValueError, match=reason):
        engine.submit(bad, 0.0)
    assert list(finishes(run(engine))) == ["a"]


def test_a_request_as_large_as_the_cache_is_served() -> None:
    engine = Engine(msgspec.structs.replace(PROFILE, kv_tokens=40, admission_reserve=0.1))
    engine.submit(request("small", 8, 10), 0.0)
    engine.submit(request("large", 30, 10), 0.0)
    assert list(finishes(run(engine))) == ["small", "large"]
