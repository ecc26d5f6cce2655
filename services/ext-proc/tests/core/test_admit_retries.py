from random import Random

import pytest

from pointsman_common.contracts.flow_pb2 import AdmitRequest
from pointsman_ext_proc.core.admit_retries import AdmitRetries, AgeingAdmit


def retries(*, fails_open: bool = False) -> AdmitRetries:
    return AdmitRetries(retry_s=2.0, fails_open=fails_open, rng=Random(1))


def test_a_request_is_asked_again_until_every_replica_was_away_for_the_whole_time() -> None:
    asking, now, times = retries(), 100.0, 0
    while (delay := asking.delay_s(asked_at=now, now=now, ends_at=165.0)) is not None:
        now += delay
        times += 1
    assert 101.5 < now <= 102.0
    assert 5 < times < 50
    assert asking.failed


def test_it_is_not_asked_again_beyond_its_own_deadline() -> None:
    asking, now = retries(), 100.0
    while (delay := asking.delay_s(asked_at=now, now=now, ends_at=100.5)) is not None:
        now += delay
    assert now <= 100.5


@pytest.mark.parametrize(("waited_s", "is_asked_again"), [(0.0, False), (0.19, False), (20, True)])
def test_failing_open_only_a_request_that_a_replica_had_taken_is_asked_again(
    waited_s: float, is_asked_again: bool
) -> None:
    asking = retries(fails_open=True)
    delay = asking.delay_s(asked_at=100.0, now=100.0 + waited_s, ends_at=165.0)
    assert (delay is not None) is is_asked_again
    if is_asked_again:
        now = 120.0 + 0.1
        assert asking.delay_s(asked_at=now, now=now, ends_at=165.0) is not None


def test_a_long_wait_that_breaks_begins_anew() -> None:
    asking = retries()
    for start in (100.0, 120.0, 140.0):
        assert asking.delay_s(asked_at=start, now=start + 19.0, ends_at=165.0) is not None


def test_before_any_failure_nothing_has_failed() -> None:
    assert not retries().failed


def test_a_request_ages_between_the_times_that_it_is_asked_for() -> None:
    ageing = AgeingAdmit(AdmitRequest(lease_id="lease-1", age_ms=250), 100.0)
    assert [ageing.at(now).age_ms for now in (100.0, 100.5, 160.0)] == [250, 750, 60_250]
    assert ageing.at(160.0).lease_id == "lease-1"
