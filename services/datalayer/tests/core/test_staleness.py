"""When an endpoint stops, and starts again, to be used."""

from pointsman_datalayer.core.staleness import Health, ReadinessLimits, is_stale

LIMITS = ReadinessLimits(failures=3, after_s=3.0)


def test_metrics_are_stale_past_their_age_or_when_never_read() -> None:
    assert not is_stale(10.0, 12.0, 2.0)
    assert is_stale(10.0, 12.1, 2.0)
    assert is_stale(None, 0.0, 2.0)


def test_an_endpoint_that_was_never_scraped_is_not_used() -> None:
    assert (Health().ready, Health().reason) == (False, "not scraped yet")
    assert Health().answered().ready


def test_an_endpoint_is_given_up_after_failures_in_a_row() -> None:
    health = Health().answered()
    for count in (1, 2):
        health = health.unreachable("connection refused", 10.0 + count / 100, LIMITS)
        assert health.ready, count
    health = health.unreachable("connection refused", 10.03, LIMITS)
    assert (health.ready, health.reason) == (False, "connection refused")


def test_an_endpoint_is_given_up_after_a_time_however_few_the_failures() -> None:
    health = Health().answered().unreachable("no answer", 10.0, LIMITS)
    assert health.ready
    assert not health.unreachable("no answer", 13.0, LIMITS).ready


def test_one_answer_makes_it_ready_again_and_forgets_the_failures() -> None:
    health = Health().answered()
    for _ in range(5):
        health = health.unreachable("connection refused", 10.0, LIMITS)
    health = health.answered()
    assert (health.ready, health.reason, health.failures) == (True, "", 0)
    assert health.unreachable("connection refused", 20.0, LIMITS).ready


def test_nonsense_is_noted_and_leaves_the_endpoint_ready() -> None:
    health = Health().answered("HTTP 404")
    assert (health.ready, health.problem) == (True, "HTTP 404")
