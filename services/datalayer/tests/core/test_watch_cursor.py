"""Where a list-and-watch goes on after whatever the server answers."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_datalayer.core.watch_cursor import (
    ABSENT_AFTER_S,
    LONGEST_RETRY_S,
    WatchCursor,
)


def a_cursor(*, at: str | None = None) -> WatchCursor:
    cursor = WatchCursor(Random(1))
    if at is not None:
        cursor.listed(at)
    return cursor


def test_it_lists_first_and_watches_from_what_the_list_said() -> None:
    cursor = a_cursor()
    assert (cursor.resource_version, cursor.settled) == (None, False)
    cursor.listed("7")
    assert (cursor.resource_version, cursor.settled, cursor.delay_s) == ("7", True, 0.0)


def test_a_stream_that_ends_goes_on_at_once_from_the_last_event() -> None:
    cursor = a_cursor(at="7")
    cursor.event("9")
    cursor.ended(lasted_s=30.0)
    assert (cursor.resource_version, cursor.delay_s) == ("9", 0.0)


def test_streams_that_end_at_once_are_begun_ever_more_slowly() -> None:
    cursor, delays = a_cursor(at="7"), list[float]()
    for _ in range(8):
        cursor.ended(lasted_s=0.0)
        delays.append(cursor.delay_s)
    assert delays[0] == 0.0
    assert LONGEST_RETRY_S / 2 <= delays[-1] <= LONGEST_RETRY_S
    cursor.event("8")
    cursor.ended(lasted_s=0.0)
    assert cursor.delay_s == 0.0, "an event shows that all is well"


def test_410_lists_again_at_once_and_slower_when_it_comes_again_and_again() -> None:
    cursor = a_cursor(at="7")
    cursor.failed(410, "expired", 0.0)
    assert (cursor.resource_version, cursor.delay_s) == (None, 0.0)
    for _ in range(5):
        cursor.listed("8")
        cursor.failed(410, "expired", 0.0)
    assert cursor.delay_s > LONGEST_RETRY_S / 4


def test_without_an_answer_it_goes_on_from_the_last_version_however_long_it_takes() -> None:
    cursor = a_cursor(at="7")
    for _ in range(100):
        cursor.failed(None, "connection refused", 0.0)
    assert (cursor.resource_version, cursor.problem) == ("7", "connection refused")
    cursor.listed("8")
    assert cursor.problem == ""


def test_a_version_that_the_server_keeps_refusing_is_given_up() -> None:
    cursor = a_cursor(at="7")
    for _ in range(5):
        cursor.failed(504, "too large resource version", 0.0)
    assert cursor.resource_version is None


def test_a_server_that_asks_for_patience_gets_it() -> None:
    cursor = a_cursor(at="7")
    cursor.failed(429, "busy", 0.0, retry_after_s=5.0)
    assert cursor.delay_s == 5.0
    cursor.failed(429, "busy", 0.0, retry_after_s=1e9)
    assert cursor.delay_s == 60.0


@pytest.mark.parametrize("status", [403, 404])
def test_what_cannot_be_had_settles_the_watch_and_is_asked_for_again(status: int) -> None:
    cursor = a_cursor()
    cursor.failed(status, "no", 0.0)
    assert cursor.settled and cursor.problem == "no" and cursor.delay_s > 1.0
    assert cursor.gone == (status == 404)


def test_a_kind_that_was_known_is_gone_only_when_it_stays_away() -> None:
    cursor = a_cursor(at="7")
    cursor.failed(404, "no", 100.0)
    seen = [cursor.gone]  # the server may be starting
    cursor.failed(404, "no", 100.0 + ABSENT_AFTER_S)
    seen.append(cursor.gone)
    cursor.listed("8")
    assert [*seen, cursor.gone] == [False, True, False]


def test_taken_rights_never_make_what_was_known_go() -> None:
    cursor = a_cursor(at="7")
    for second in range(100):
        cursor.failed(403, "forbidden", float(second))
    assert not cursor.gone


STEPS = st.one_of(
    st.tuples(st.just("listed")),
    st.tuples(st.just("event")),
    st.tuples(st.just("ended"), st.floats(0, 100)),
    st.tuples(st.just("failed"), st.sampled_from([None, 403, 404, 410, 429, 500, 504])),
)


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_it_is_never_too_slow_nor_forgets_that_it_is_settled(
    steps: list[tuple[str, ...]],
) -> None:
    cursor, settled = a_cursor(), False
    for number, (step, *given_) in enumerate(steps):
        match step:
            case "listed":
                cursor.listed(str(number))
            case "event":
                cursor.event(str(number))
            case "ended":
                cursor.ended(float(given_[0]))
            case _:
                cursor.failed(given_[0], "why", float(number))  # type: ignore[arg-type]  # drawn so
        assert 0.0 <= cursor.delay_s <= 5.0
        assert cursor.settled or not settled
        settled = cursor.settled
