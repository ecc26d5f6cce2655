"""Engines in virtual time: when answers come, and which metrics are seen."""

import pytest

from pointsman_replay.core.timeline import Timeline
from pointsman_replay.core.trace import TraceRequest
from pointsman_replay.core.virtual_pool import ScrapeTiming, VirtualPool
from pointsman_simulator.core.engine_events import Finished
from pointsman_simulator.core.engine_profile import EngineProfile

# A step of prefill takes 1 s for each 100 tokens, one of decoding 1 s.
SLOW = EngineProfile(
    name="slow",
    step_overhead_s=0.0,
    weights_s=1.0,
    token_s=0.01,
    decode_s=0.0,
    context_s=0.0,
    attention_s=0.0,
    kv_tokens=1600,
    step_budget_tokens=200,
)


class Bench:
    def __init__(self, timing: ScrapeTiming | None = None, *, replicas: int = 1) -> None:
        self.timeline = Timeline()
        self.first: dict[int, float] = {}
        self.ended: dict[int, Finished] = {}
        self.pool = VirtualPool(
            self.timeline,
            SLOW,
            replicas,
            block_tokens=16,
            scrapes=timing or ScrapeTiming(),
            on_first_token=lambda number, event: self.first.update({number: event.at}),
            on_finished=lambda number, event: self.ended.update({number: event}),
        )

    def submit(self, number: int, tokens: int, *, output: int = 1, row: int = 0) -> None:
        request = TraceRequest(self.timeline.now, tokens, output, tuple(range(tokens // 16)))
        self.pool.submit(row, number, request)


def test_answers_come_when_the_engine_has_worked_for_them() -> None:
    bench = Bench()
    bench.submit(0, 200, output=3)
    bench.timeline.run_until(10.0)
    assert bench.first == {0: pytest.approx(2.0)}
    assert bench.ended[0].at == pytest.approx(4.0)


def test_a_prompt_seen_before_is_computed_for_its_last_block_only() -> None:
    bench = Bench()
    bench.submit(0, 200)
    bench.timeline.run_until(10.0)
    bench.submit(1, 200)
    bench.timeline.run_until(20.0)
    assert bench.ended[1].cached_tokens == 192
    assert bench.first[1] == pytest.approx(11.0)


def test_metrics_are_those_of_the_last_scrape_however_late_one_looks() -> None:
    bench = Bench(ScrapeTiming(period_s=1.5))
    bench.pool.scrape()
    bench.submit(0, 100, output=10)
    seen: list[tuple[float, int]] = []
    for at in (0.5, 1.2, 1.6, 4.4):
        bench.timeline.run_until(at)
        report = bench.pool.report(0)
        seen.append((report.scraped_at, report.stats.running))
    # The first step ends at 1.0: the scrape at 0 sees nothing of it, the one at 1.5 does.
    assert seen == [(0.0, 0), (0.0, 0), (1.5, 1), (3.0, 1)]


def test_delayed_metrics_show_the_engine_as_it_was_at_the_scrape() -> None:
    bench = Bench(ScrapeTiming(period_s=1.0, delay_s=2.5))
    bench.pool.scrape()
    bench.submit(0, 100)  # ends at 1.0
    bench.timeline.run_until(1.1)
    bench.submit(1, 300)  # until 4.1, with the end of a step at 3.1
    for at, scraped_at, prompts in (
        (3.4, 0.0, 0),
        (4.4, 1.0, 100),
        (7.4, 4.0, 100),
        (7.6, 5.0, 400),
    ):
        bench.timeline.run_until(at)
        report = bench.pool.report(0)
        assert (report.scraped_at, report.stats.prompt_tokens) == (scraped_at, prompts)


def test_scrapes_are_staggered_over_the_endpoints() -> None:
    bench = Bench(ScrapeTiming(period_s=1.0), replicas=4)
    bench.pool.scrape()
    bench.timeline.run_until(10.9)
    assert [bench.pool.report(row).scraped_at for row in range(4)] == [10.0, 10.25, 10.5, 10.75]


def test_an_engine_shows_its_backlog_and_its_cache_to_the_oracle() -> None:
    bench = Bench()
    bench.submit(0, 200)
    bench.submit(1, 400)
    engine = bench.pool.engines[0]
    assert engine.backlog_tokens() == 200 + 400 - 192  # the second begins as the first does
    assert engine.waiting_tokens() == 400
    bench.timeline.run_until(10.0)
    assert engine.backlog_tokens() == 0
    assert engine.cached_tokens(range(12), 200) == 192
    assert engine.cached_tokens(range(100, 112), 200) == 0
