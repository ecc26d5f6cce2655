from pointsman_common.contracts.events_pb2 import RequestFinished
from pointsman_ext_proc.core.told_ends import ToldEnds


def test_ends_are_found_by_their_lease_as_they_were_told() -> None:
    ends = ToldEnds(most=10, keep_s=600.0)
    event = RequestFinished(lease_id="x-1", http_status=503, cause="connection-failed")
    ends.add(event, 0.0)
    assert "x-1" in ends
    assert ends.among(["x-0", "x-1", "x-2"]) == [event]


def test_the_oldest_ends_give_way_beyond_the_limit() -> None:
    ends = ToldEnds(most=3, keep_s=600.0)
    for number in range(5):
        ends.add(RequestFinished(lease_id=f"x-{number}"), float(number))
    assert len(ends) == 3
    assert "x-1" not in ends
    assert "x-2" in ends


def test_an_end_is_forgotten_after_its_time_however_often_it_is_told() -> None:
    ends = ToldEnds(most=10, keep_s=600.0)
    for now in (0.0, 300.0, 599.0):
        ends.add(RequestFinished(lease_id="x-1"), now)
    ends.add(RequestFinished(lease_id="x-2"), 300.0)
    ends.expire(599.9)
    assert "x-1" in ends
    ends.expire(600.0)
    assert ("x-1" in ends, "x-2" in ends) == (False, True)
