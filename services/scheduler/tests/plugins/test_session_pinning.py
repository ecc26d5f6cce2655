from base64 import b64encode

import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.testing.builders import an_endpoint
from pointsman_scheduler.core.config import compile_config
from pointsman_scheduler.plugins.catalogue import PLUGINS
from pointsman_scheduler.plugins.session_pinning import SessionId, SessionIdPinning
from pointsman_scheduler.testing import (
    NOW,
    Desk,
    a_config,
    a_request,
    candidates_of,
    decided,
    scores,
)

BOTH = ["session-affinity-scorer", "session-affinity-filter"]
THREE = [an_endpoint(index) for index in range(1, 4)]
BY_ID = {"strategy": "session_id"}


def token(name: str) -> dict[str, str]:
    return {"x-session-token": b64encode(name.encode()).decode()}


@pytest.mark.parametrize("kind", BOTH)
def test_the_endpoint_that_the_token_names_is_picked(kind: str) -> None:
    desk = Desk(THREE, a_config(kind))
    assert {desk.where(headers=token("default/pod-2-rank-0")) for _ in range(20)} == {"e2"}


@pytest.mark.parametrize("kind", BOTH)
def test_the_answer_carries_the_token_of_the_primary_and_pins_it(kind: str) -> None:
    desk = Desk(THREE, a_config(kind))
    decision = decided(desk.pick())
    assert decision.response_headers == token(decision.endpoints[0].name)
    headers = dict(decision.response_headers)
    assert desk.where(headers=headers) == decision.endpoints[0].uid


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "headers",
    [{}, token("default/gone-rank-0"), {"x-session-token": "not base64!"}, token("")],
)
def test_without_a_pinned_endpoint_all_are_as_good(kind: str, headers: dict[str, str]) -> None:
    desk = Desk(THREE, a_config(kind))
    assert {desk.where(headers=headers) for _ in range(60)} == {"e1", "e2", "e3"}


def test_a_token_of_bytes_that_are_no_text_pins_nothing() -> None:
    broken = {"x-session-token": b64encode(b"\xff\xfe").decode()}
    assert scores(Desk(THREE, a_config(BOTH[0])).pick(headers=broken)) == dict.fromkeys(
        ("e1", "e2", "e3"), 0.0
    )


@pytest.mark.parametrize("kind", BOTH)
def test_a_session_stays_where_its_first_request_went(kind: str) -> None:
    desk = Desk(THREE, a_config({"type": kind, "parameters": BY_ID}))
    for session in ("a", "b", "c", "d"):
        headers = {"x-session-id": session}
        first = desk.where(headers=headers)
        assert {desk.where(headers=headers) for _ in range(10)} == {first}
    assert not decided(desk.pick(headers={"x-session-id": "a"})).response_headers


def test_a_session_moves_only_when_its_endpoint_is_gone() -> None:
    desk = Desk(THREE, a_config({"type": BOTH[1], "parameters": BY_ID}))
    headers = {"x-session-id": "a"}
    first = desk.where(headers=headers)
    desk.say([one for one in THREE if one.uid != first])
    second = desk.where(headers=headers)
    assert second != first
    desk.say(THREE)
    assert {desk.where(headers=headers) for _ in range(10)} == {second}


def test_a_pick_elsewhere_does_not_move_a_session_whose_endpoint_is_there() -> None:
    pinning, request = SessionIdPinning(SessionId()), a_request(headers={"x-session-id": "a"})
    candidates = candidates_of(THREE)
    pinning.picked(request, candidates, THREE[0])
    pinning.picked(request, candidates, THREE[1])
    assert pinning.row(request, candidates) == 0


def test_a_session_is_forgotten_after_its_time_without_a_request() -> None:
    pinning, request = SessionIdPinning(SessionId()), a_request(headers={"x-session-id": "a"})
    pinning.picked(request, candidates_of(THREE, now=NOW), THREE[0])
    pinning.picked(request, candidates_of(THREE, now=NOW + 299.0), THREE[0])
    assert pinning.row(request, candidates_of(THREE, now=NOW + 599.0)) == 0
    assert pinning.row(request, candidates_of(THREE, now=NOW + 600.0)) is None


def test_sessions_are_bounded() -> None:
    pinning, candidates = SessionIdPinning(SessionId(), sessions=2), candidates_of(THREE)
    requests = [a_request(headers={"x-session-id": session}) for session in "abc"]
    for request in requests:
        pinning.picked(request, candidates, THREE[2])
    assert [pinning.row(request, candidates) for request in requests] == [None, 2, 2]


def test_the_first_source_that_is_there_names_the_session() -> None:
    config = {"sources": [{"header": "X-Chat"}, {"header": "x-user"}]}
    kind = {"type": BOTH[0], "parameters": {**BY_ID, "sessionIdConfig": config}}
    desk = Desk(THREE, a_config(kind))
    first = desk.where(headers={"x-chat": "a", "x-user": "u"})
    assert {desk.where(headers={"x-chat": "a"}) for _ in range(10)} == {first}
    assert {desk.where(headers={"x-user": str(user)}) for user in range(40)} == {"e1", "e2", "e3"}


def test_a_source_that_is_no_header_is_refused() -> None:
    config = {"sources": [{"attribute": "session-id", "producer": "session-id-producer"}]}
    kind = {"type": BOTH[0], "parameters": {**BY_ID, "sessionIdConfig": config}}
    with pytest.raises(SettingsError):
        compile_config(a_config(kind), PLUGINS)
