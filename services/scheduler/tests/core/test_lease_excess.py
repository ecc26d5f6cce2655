import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.in_flight import Lease
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_scheduler.core.lease_excess import LeaseExcess
from pointsman_scheduler.testing import NOW, Desk


def report(at: float, running: int | None, waiting: int | None = 0) -> EndpointMetrics:
    return EndpointMetrics(running_requests=running, waiting_requests=waiting, read_at=at)


def test_what_an_engine_lacks_for_more_than_5_s_counts_less_and_less() -> None:
    excess = LeaseExcess()
    for second in range(6):
        assert not excess.note("a", 10, report(second, 6))
        assert excess.believed("a", 10) == 1.0
    assert excess.note("a", 10, report(7.0, 6))
    assert excess.believed("a", 10) == pytest.approx(0.8)  # half of the 4 that are too many
    excess.note("a", 10, report(60.0, 6))
    assert excess.believed("a", 10) == pytest.approx(0.6, abs=1e-4)
    assert (excess.begun, excess.disbelieved()) == (1, 4)


def test_the_least_of_the_time_counts() -> None:
    excess = LeaseExcess()
    for second, running in enumerate([0, 9, 0, 0, 0, 0, 0, 0]):
        excess.note("a", 10, report(second, running))
    assert excess.disbelieved() == 1


def test_one_report_of_as_much_work_ends_it() -> None:
    excess = LeaseExcess()
    for second in range(9):
        excess.note("a", 3, report(second, 0))
    assert excess.any
    assert excess.note("a", 3, report(9.0, 2, waiting=1))
    assert (excess.any, excess.believed("a", 3)) == (False, 1.0)


def test_a_report_without_numbers_tells_nothing() -> None:
    excess = LeaseExcess()
    for second in range(20):
        assert not excess.note("a", 3, report(second, None))
    assert excess.believed("a", 3) == 1.0


def test_leases_that_no_engine_works_on_stop_keeping_their_endpoint_idle() -> None:
    desk = Desk([an_endpoint(1, running=0), an_endpoint(2, running=0)])
    desk.leases.reserve(Lease("stuck", "", POOL, "e1", 50_000, 50_000), NOW)
    desk.leases.open(Lease("stuck", "edge", POOL, "e1", 50_000, 50_000), NOW)
    assert desk.picking.ready_pool(POOL) is not None
    for second in range(1, 40):
        now = NOW + second
        some = [an_endpoint(1, running=0, read_at=now), an_endpoint(2, running=0, read_at=now)]
        desk.say(some, now=now)
        desk.picking.ready_pool(POOL)
    pool = desk.picking.pools[POOL]
    candidates = desk.pick(now=NOW + 40).candidates
    assert candidates is not None
    assert candidates.prefill_tokens[0] < 1.0
    assert pool.table.excess.begun == 1
    assert desk.leases.load("e1").prefill_tokens == 50_000  # the books are as they were


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 20), st.floats(-50.0, 50.0, allow_nan=False)),
        max_size=60,
    )
)
def test_never_more_or_less_than_all_is_believed(
    reports: list[tuple[int, int, float]],
) -> None:
    excess, at = LeaseExcess(), 0.0
    for requests, running, later in reports:
        at += later  # clocks jump
        excess.note("a", requests, report(at, running))
        assert 0.0 <= excess.believed("a", requests) <= 1.0
    excess.keep(set())
    assert not excess.any
