import asyncio

import pytest

from pointsman_common import subjects
from pointsman_common.contracts import events_pb2
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_router.adapters.usage_learner import UsageLearner
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.request_parsers.registry import ParserRegistry
from pointsman_router.core.request_router import RequestRouter, RoutingDecision
from pointsman_router.core.token_ratio import MAX_MODELS, TokenRatios


def learnt(ratio: float, *, tokens: int = 1000, times: int = 30) -> TokenRatios:
    ratios = TokenRatios()
    for _ in range(times):
        ratios.learn("m", estimated=tokens, counted=round(tokens * ratio))
    return ratios


def test_a_ratio_is_believed_once_enough_was_seen() -> None:
    assert learnt(0.8, times=19).of("m") == 1.0
    assert learnt(0.8, times=20).of("m") == pytest.approx(0.8)
    assert learnt(0.8).of("other") == 1.0


def test_what_came_last_counts_most() -> None:
    ratios = learnt(0.8, times=1000)
    for _ in range(1000):
        ratios.learn("m", estimated=1000, counted=1250)
    assert ratios.of("m") == pytest.approx(1.25, abs=0.02)


def test_what_cannot_be_a_tokenizers_doing_is_left_out() -> None:
    ratios = TokenRatios()
    for estimated, counted in ((100_000, 0), (100_000, 900_000), (0, 5)):
        ratios.learn("m", estimated=estimated, counted=counted)
    assert ratios.of("m") == 1.0


def test_no_more_models_are_kept_than_may_be() -> None:
    ratios = learnt(0.5)
    for number in range(MAX_MODELS):
        ratios.learn(str(number), estimated=1, counted=1)
    assert ratios.of("m") == 1.0


def routed(ratios: TokenRatios, body: bytes) -> RoutingDecision:
    router = RequestRouter(
        InferencePool(name="a/b"),
        ParserRegistry.from_config(None),
        max_prefix_blocks=100,
        forwarded_headers=(),
        ratios=ratios,
    )
    headers = RequestHeaders([(":path", b"/v1/completions"), (":method", b"POST")])
    return router.route(headers, body, bodiless=False)


def test_the_estimate_and_the_tokens_of_a_block_follow_the_ratio_together() -> None:
    body = b'{"model":"m","prompt":"' + b"x" * 4000 + b'"}'
    decision = routed(learnt(0.75), body)
    assert (decision.prompt_tokens, decision.block_tokens) == (750, 48)
    plain = routed(TokenRatios(), body)
    assert (plain.prompt_tokens, plain.block_tokens) == (1000, 64)
    assert plain.block_hashes == decision.block_hashes


def test_token_ids_are_counted_as_they_are() -> None:
    decision = routed(learnt(0.5), b'{"model":"m","prompt":[1,2,3]}')
    assert (decision.prompt_tokens, decision.block_tokens) == (3, 64)


async def test_it_is_learnt_from_picks_and_their_ends() -> None:
    bus, clock, ratios = InMemoryBus(), VirtualClock(), TokenRatios()
    learner = UsageLearner(bus, clock, ratios, block_tokens={"a/b": 64}.get, max_blocks=2048)
    running = asyncio.create_task(learner.run())
    await clock.advance(0.1)

    def tell(lease: str, *, pool: str = "a/b", blocks: int = 100, counted: int = 5094) -> None:
        picked = events_pb2.RequestEvents(pool=pool)
        event = picked.picked.add(first_block=10, prompt_block_hashes=bytes(8 * (blocks - 10)))
        event.lease.lease_id = lease
        bus.publish(subjects.request_picked(pool), picked.SerializeToString())
        finished = events_pb2.RequestEvents(pool=pool)
        finished.finished.add(lease_id=lease, model="m", prompt_tokens=counted)
        bus.publish(subjects.request_finished(pool), finished.SerializeToString())

    try:
        tell("other", pool="not/known", counted=1)
        bus.publish(subjects.request_picked("a/b"), b"\xff")
        for number in range(10):
            tell(f"l{number}")
        assert ratios.of("m") == pytest.approx(0.8, abs=0.001)
        await clock.advance(10.0)
        for number in range(100):
            tell(f"later{number}", counted=12_000)
        assert ratios.of("m") == pytest.approx(0.8, abs=0.001), "it is not listening"
        await clock.advance(50.0)
        for number in range(100):
            tell(f"again{number}", counted=6368)
        assert ratios.of("m") == pytest.approx(1.0, abs=0.05)
    finally:
        running.cancel()
        await asyncio.wait([running])
