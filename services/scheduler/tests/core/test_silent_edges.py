from pointsman_common.contracts.events_pb2 import Lease as LeaseMessage
from pointsman_common.contracts.events_pb2 import RequestFinished, RequestPicked, RequestServing
from pointsman_common.in_flight import decode_lease
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_scheduler.core.config import DEFAULT_POLICIES
from pointsman_scheduler.core.silent_edges import UNTOLD, SilentEdges
from pointsman_scheduler.testing import NOW, Desk


def silent(edge: str = "edge") -> SilentEdges:
    edges = SilentEdges()
    for number in range(UNTOLD):
        assert not edges.is_silent(edge)
        edges.ended(edge, f"l{number}", serving=False, well=True)
    assert edges.is_silent(edge)
    return edges


def test_an_edge_is_silent_once_enough_answers_ended_without_a_first_token() -> None:
    edges = silent()
    assert not edges.is_silent("other")
    edges.told("edge")
    assert not edges.is_silent("edge")


def test_ends_without_an_answer_say_nothing() -> None:
    edges = SilentEdges()
    for number in range(100):
        edges.ended("edge", f"l{number}", serving=False, well=False)
    assert not edges.is_silent("edge")


def test_prefills_of_one_endpoint_follow_one_another_on_its_clock() -> None:
    edges = silent()
    edges.picked("e1", "a", 2.0, 10.0)
    edges.picked("e1", "b", 1.0, 10.5)
    edges.picked("e2", "c", 1.0, 10.5)
    assert edges.due(11.9) == ["c"]
    assert edges.due(12.0) == ["a"]
    assert edges.due(12.9) == []
    assert edges.due(13.0) == ["b"]
    edges.picked("e1", "d", 1.0, 50.0)  # idle since: its clock is the present
    assert edges.due(51.0) == ["d"]
    assert edges.guessed == 4


def test_a_first_token_that_was_guessed_is_none_that_was_told() -> None:
    edges = silent()
    edges.picked("e1", "a", 1.0, 0.0)
    edges.due(1.0)
    edges.ended("edge", "a", serving=True, well=True)
    assert edges.is_silent("edge")


def test_no_more_than_so_many_are_waited_for() -> None:
    edges = SilentEdges(leases=2)
    for number in range(5):
        edges.picked("e1", f"l{number}", 1.0, 0.0)
    assert len(edges.due(100.0)) == 2


def _told(desk: Desk, lease_id: str, *, first_token: bool, now: float) -> None:
    """One request from the pick to its end, as an edge tells of it."""
    pick = desk.pick(lease_id=lease_id, prompt_tokens=1000, now=now)
    lease = LeaseMessage(
        lease_id=lease_id, edge="edge", pool=POOL, endpoint_uid="e1", prefill_tokens=1000
    )
    assert pick.prefill_tokens == 1000
    desk.leases.open(decode_lease(lease, now), now)
    desk.picking.learn_pick(RequestPicked(lease=lease))
    if first_token:
        desk.leases.serve(lease_id)
        desk.picking.learn_first_token(
            RequestServing(lease_id=lease_id, endpoint_uid="e1", ttft_ms=60)
        )


def _ended(desk: Desk, lease_id: str) -> None:
    desk.picking.learn_finish(RequestFinished(lease_id=lease_id, http_status=200))
    desk.leases.finish(lease_id)


def test_where_no_first_token_is_told_the_clock_ends_the_prefill() -> None:
    desk = Desk([an_endpoint(1)], DEFAULT_POLICIES["cost"])
    for number in range(UNTOLD):
        _told(desk, f"l{number}", first_token=False, now=NOW)
        _ended(desk, f"l{number}")
    _told(desk, "next", first_token=False, now=NOW + 1)
    assert desk.leases.load("e1").prefill_tokens == 1000
    desk.picking.pass_time(NOW + 1 + 1000 * 45e-6 + 0.001)
    load = desk.leases.load("e1")
    assert (load.prefill_tokens, load.serving) == (0, 1)
    _ended(desk, "next")
    assert desk.picking.silent_edges.is_silent("edge")


def test_where_first_tokens_are_told_nothing_is_guessed() -> None:
    desk = Desk([an_endpoint(1)], DEFAULT_POLICIES["cost"])
    for number in range(3 * UNTOLD):
        _told(desk, f"l{number}", first_token=True, now=NOW)
        _ended(desk, f"l{number}")
    _told(desk, "next", first_token=False, now=NOW + 1)
    desk.picking.pass_time(NOW + 100)
    assert desk.leases.load("e1").prefill_tokens == 1000
    assert desk.picking.silent_edges.guessed == 0
