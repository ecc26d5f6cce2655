"""The replay's foremost claim, in real time: against llm-d-router's default, requests that come in
bursts reach their first token sooner. `make live` compares the figures; see docs/replay.md."""

from pathlib import Path
from random import Random

import pytest
from support.live_plan import POINTSMAN, POLICIES, UPSTREAM, cut, plan_live, replayed
from support.live_run import LiveStage

from pointsman_replay.core.generated_trace import generate_trace
from pointsman_replay.core.trace import Trace, TraceRequest
from pointsman_simulator.core.prompt_blocks import count_tokens, hash_blocks

BLOCK_TOKENS = 512
SYSTEM_PROMPT = tuple(range(8))
"""Its blocks, which every request begins with."""


def bursts(count: int, requests: int) -> Trace:
    """Waves of requests, the whole wave between two scrapes, with documents of unequal lengths
    after one system prompt."""
    rng, next_block = Random(1), 100
    drawn: list[TraceRequest] = []
    for number in range(count * requests):
        own = tuple(range(next_block, next_block + rng.randint(1, 12)))
        next_block = own[-1] + 1
        wave, place = divmod(number, requests)
        blocks = SYSTEM_PROMPT + own
        drawn.append(
            TraceRequest(wave * 2.0 + place * 0.01, len(blocks) * BLOCK_TOKENS + 20, 8, blocks)
        )
    return Trace("bursts", BLOCK_TOKENS, tuple(drawn))


def test_prompts_have_the_length_and_share_the_blocks_that_the_trace_says() -> None:
    plan = plan_live(bursts(2, 4), engines=2, load=0.5, seconds=4.0)
    ids: dict[int, int] = {}
    others: set[int] = set()
    for number, request in enumerate(plan.trace.requests):
        prompt = plan.prompt(number).encode()
        hashes = hash_blocks(prompt, block_size=BLOCK_TOKENS, lora=None, cache_salt="")
        assert count_tokens(prompt) == request.prompt_tokens
        assert len(hashes) == len(request.block_hashes)
        for block, found in zip(request.block_hashes, hashes, strict=True):
            assert ids.setdefault(block, found) == found
        salted = plan.prompt(number, "salt").encode()
        others.update(hash_blocks(salted, block_size=BLOCK_TOKENS, lora=None, cache_salt=""))
    assert len(set(ids.values())) == len(ids) == len(others)
    assert others.isdisjoint(ids.values())


def test_a_cut_keeps_conversations_whole_and_its_requests_in_order() -> None:
    whole = generate_trace(2_000, seed=1)
    few = cut(whole, 200, answer_tokens=64)
    assert len(few.requests) == 200
    times = [request.at_s for request in few.requests]
    assert times == sorted(times)
    assert max(request.output_tokens for request in few.requests) == 64
    # A conversation goes on: its last prompt holds all blocks of the one before.
    assert hits_with_an_endless_cache(few) > 0.9 * hits_with_an_endless_cache(whole)


def hits_with_an_endless_cache(trace: Trace) -> float:
    """Share of the blocks that an earlier request has named."""
    seen: set[int] = set()
    found = asked = 0
    for request in trace.requests:
        found += sum(block in seen for block in request.block_hashes)
        asked += len(request.block_hashes)
        seen.update(request.block_hashes)
    return found / asked


@pytest.mark.timeout(180)
def test_bursts_wait_less_with_the_default_policy_than_with_upstreams_as_the_replay_foretells(
    tmp_path: Path,
) -> None:
    plan = plan_live(bursts(6, 8), engines=4, load=0.6, seconds=4.5)
    foretold = replayed(plan, (1,))
    expected = foretold[UPSTREAM][0].ttft_s.mean / foretold[POINTSMAN][0].ttft_s.mean
    assert expected > 2.0, "without a wide margin the direction would be chance"

    with LiveStage(plan, tmp_path / "live") as stage:
        runs = {policy: stage.play(policy) for policy in POLICIES}

    for run in runs.values():
        assert not run.problems
        assert len(run.ttfts_s) == len(plan.trace.requests)
        assert run.hit_ratio > 0.3  # of the system prompt, which is half of what is asked
    assert runs[UPSTREAM].engine_ttft_s > runs[POINTSMAN].engine_ttft_s
    assert runs[UPSTREAM].ttft_s > runs[POINTSMAN].ttft_s
