"""How often a recommendation turns round, and that the report says so."""

from html.parser import HTMLParser

from pointsman_replay.core.digest_report import (
    DigestPoint,
    DigestRun,
    direction_changes,
    html_digest,
    most_in_window,
    text_digest,
)
from pointsman_replay.core.measures import Spread


def a_run(recommended: list[int | None], *, work: list[float] | None = None) -> DigestRun:
    points = tuple(
        DigestPoint(
            at_s=60.0 * minute,
            requests_per_s=10.0,
            work=work[minute] if work else 1.0,
            ready=2,
            recommended=replicas,
            regime="tight",
            reason="<b>",
            utilization=None if replicas is None else 0.5,
            saturation=0.1,
            predicted_ttft_s=0.2,
        )
        for minute, replicas in enumerate(recommended)
    )
    return DigestRun(
        trace="a <trace>",
        notes=("2 copies",),
        engine="8b-h100",
        requests=600,
        most_replicas=8,
        follows=True,
        target_utilization=0.7,
        points=points,
        ttft_s=Spread(0.1, 0.1, 0.2, 0.3, 0.4),
    )


def test_a_direction_changes_where_a_rise_meets_a_fall() -> None:
    told = [(0.0, 2), (1.0, 4), (2.0, 4), (3.0, 6), (4.0, 5), (5.0, 3), (6.0, 4)]
    assert direction_changes(told) == [4.0, 6.0]
    assert direction_changes([(0.0, 2), (1.0, 2)]) == []


def test_the_worst_window_counts() -> None:
    assert most_in_window([0.0, 200.0, 299.0, 600.0], 300.0) == 3
    assert most_in_window([], 300.0) == 0


def test_a_flapping_recommendation_is_told_with_its_count() -> None:
    run = a_run([None, 2, 4, 2, 4, 2])
    assert run.most_changes == 3
    assert "3 in all, at most 3 in 300 s (limit 1)" in text_digest(run)


def test_following_the_load_shows_as_correlation() -> None:
    run = a_run([1, 2, 3, 4], work=[0.7, 1.4, 2.1, 2.8])
    assert run.correlation(0.0) > 0.99
    assert a_run([4, 3, 2, 1], work=[0.7, 1.4, 2.1, 2.8]).correlation(0.0) < -0.99


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)


def test_the_page_has_its_plots_and_escapes_what_traces_say() -> None:
    page = html_digest(a_run([1, 2, 2, 3]))
    tags = _Tags()
    tags.feed(page)
    assert tags.seen.count("polyline") == 5
    assert "trace" not in tags.seen
