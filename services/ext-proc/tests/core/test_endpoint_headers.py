from typing import Any

import pytest

from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.contracts.scheduling_pb2 import Picked
from pointsman_ext_proc.core.endpoint_headers import (
    CONTROL_HEADERS,
    destination_value,
    header,
    request_edit,
)
from pointsman_ext_proc.core.exchange_events import Destination, Dispatched, HeaderEdit, Headers

ALWAYS_GONE = {"x-prefiller-host-port", "x-encoder-hosts-ports"}


def edit_for(client: Headers = (), **decision: Any) -> HeaderEdit:
    dispatched = Dispatched(
        lease_id="l",
        descriptor=RequestDescriptor(),
        destinations=(Destination("e2", "10.0.0.2:8000"), Destination("e1", "[fd00::1]:8000")),
        picked=Picked(),
        **decision,
    )
    return request_edit(client, dispatched, content_length=0, made_up_request_id="")


def test_the_destination_comes_first_with_its_fallbacks() -> None:
    edit = edit_for(set_headers=(("x-a", b"1"),))
    assert edit.set == (
        ("x-gateway-destination-endpoint", b"10.0.0.2:8000,[fd00::1]:8000"),
        ("x-a", b"1"),
    )


@pytest.mark.parametrize("name", sorted(CONTROL_HEADERS - {"x-gateway-destination-endpoint"}))
def test_a_control_header_of_a_client_never_reaches_the_model_server(name: str) -> None:
    edit = edit_for(client=((name, b"evil"), ("authorization", b"mine")))
    assert set(edit.remove) == {name} | ALWAYS_GONE


def test_what_is_set_is_not_removed() -> None:
    edit = edit_for(
        client=(("x-gateway-destination-endpoint", b"6.6.6.6:1"),),
        set_headers=(("x-prefiller-host-port", b"10.0.0.9:8000"),),
    )
    assert set(edit.remove) == {"x-encoder-hosts-ports"}
    assert dict(edit.set)["x-prefiller-host-port"] == b"10.0.0.9:8000"


def test_a_layer_removes_headers_but_not_those_that_the_edge_owns() -> None:
    edit = edit_for(remove_headers=("x-secret", "content-length", "host", ":path"))
    assert set(edit.remove) == {"x-secret"} | ALWAYS_GONE


def test_a_layer_cannot_set_the_destination_or_the_length() -> None:
    edit = edit_for(
        set_headers=(("x-gateway-destination-endpoint", b"6.6.6.6:1"), ("content-length", b"9"))
    )
    assert [name for name, _ in edit.set] == ["x-gateway-destination-endpoint"]
    assert edit.set[0][1].startswith(b"10.0.0.2:8000")


def test_the_first_of_several_equal_headers_counts() -> None:
    assert header((("a", b"1"), ("a", b"2")), "a") == "1"
    assert header((), "a") is None


def test_one_destination_stands_alone() -> None:
    assert destination_value([Destination("", "10.0.0.1:8000")]) == "10.0.0.1:8000"
