from pointsman_ext_proc.core.lease_guard import EngineReport, HeldLease, LeaseGuard


def held(count: int, *, opened_at: float = 100.0, endpoint: str = "e1") -> list[HeldLease]:
    return [HeldLease(f"{endpoint}-{index}", endpoint, opened_at) for index in range(count)]


def report(work: int, now: float) -> dict[str, EngineReport]:
    return {"e1": EngineReport(work, read_at=now - 0.1)}


def test_a_surplus_that_lasts_is_lost_oldest_first() -> None:
    guard = LeaseGuard(patience_s=5.0)
    leases = held(3)
    for now in (110.0, 112.0, 114.9):
        assert guard.contradicted(leases, report(1, now), now) == []
    assert guard.contradicted(leases, report(1, 115.0), 115.0) == ["e1-0", "e1-1"]


def test_only_the_smallest_surplus_of_the_time_is_lost() -> None:
    guard = LeaseGuard(patience_s=5.0)
    assert guard.contradicted(held(3), report(0, 110.0), 110.0) == []
    assert guard.contradicted(held(3), report(2, 112.0), 112.0) == []
    assert guard.contradicted(held(3), report(0, 115.0), 115.0) == ["e1-0"]


def test_an_engine_that_reports_enough_in_between_starts_the_wait_anew() -> None:
    guard = LeaseGuard(patience_s=5.0)
    assert guard.contradicted(held(2), report(0, 110.0), 110.0) == []
    assert guard.contradicted(held(2), report(2, 112.0), 112.0) == []
    assert guard.contradicted(held(2), report(0, 115.0), 115.0) == []
    assert guard.contradicted(held(2), report(0, 120.0), 120.0) == ["e1-0", "e1-1"]


def test_leases_that_may_not_have_reached_the_engine_do_not_count() -> None:
    guard = LeaseGuard(patience_s=0.0)
    young = held(2, opened_at=109.5)
    assert guard.contradicted(young, report(0, 110.0), 110.0) == []


def test_old_reports_and_unknown_engines_prove_nothing() -> None:
    guard = LeaseGuard(patience_s=0.0, stale_s=2.0)
    old = {"e1": EngineReport(0, read_at=107.9)}
    assert guard.contradicted(held(2), old, 110.0) == []
    assert guard.contradicted(held(2), {}, 110.0) == []


def test_engines_are_judged_apart() -> None:
    guard = LeaseGuard(patience_s=0.0)
    leases = [*held(2), *held(2, endpoint="e2")]
    reports = {"e1": EngineReport(2, read_at=109.9), "e2": EngineReport(1, read_at=109.9)}
    assert guard.contradicted(leases, reports, 110.0) == ["e2-0"]
