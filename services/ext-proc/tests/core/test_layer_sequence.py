from typing import Any

import pytest

from pointsman_common.contracts import flow_pb2, routing_pb2, scheduling_pb2
from pointsman_common.contracts.layer_pb2 import HeaderMutation, HeaderValue, Rejection
from pointsman_common.errors import LayerFailedError, LayerUnavailableError
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import POOL, a_descriptor, a_snapshot, an_endpoint
from pointsman_ext_proc.core.endpoint_directory import EndpointDirectory
from pointsman_ext_proc.core.exchange_events import CallLayers, Destination, Dispatched, Refused
from pointsman_ext_proc.core.last_resort import LastResort
from pointsman_ext_proc.core.layer_sequence import (
    Call,
    Hop,
    LayerSequence,
    Pause,
    SequenceRules,
    Shared,
    Step,
)

NOW = 100.0
TIMEOUTS = {Hop.ROUTE: 2.0, Hop.ADMIT: 65.0, Hop.PICK: 1.0}
ROUTED = routing_pb2.RouteResponse(routed=routing_pb2.Routed(descriptor=a_descriptor()))
ADMITTED = flow_pb2.AdmitResponse(admitted=flow_pb2.Admitted())
GONE = LayerUnavailableError


def picked(*addresses: str) -> scheduling_pb2.PickResponse:
    endpoints = [scheduling_pb2.PickedEndpoint(address=address) for address in addresses]
    return scheduling_pb2.PickResponse(picked=scheduling_pb2.Picked(endpoints=endpoints))


class Story:
    """One request on its way through the layers."""

    def __init__(
        self,
        *,
        fail_open: tuple[Hop, ...] = (),
        endpoints: tuple[int, ...] | None = (1, 2, 3),
        subset: tuple[str, ...] | None = None,
        candidates: bool = False,
        headers: tuple[tuple[str, bytes], ...] = (),
        **rules: Any,
    ) -> None:
        view = PoolView(max_age_s=10.0)
        if endpoints is not None:
            view.apply_snapshot(a_snapshot(an_endpoint(index) for index in endpoints), NOW)
        self.degraded: list[Hop] = []
        shared = Shared(
            SequenceRules(pool=POOL, timeouts_s=TIMEOUTS, fail_open=frozenset(fail_open), **rules),
            EndpointDirectory(view, POOL),
            LastResort(),
            wants_candidates=lambda: candidates,
            on_degraded=self.degraded.append,
        )
        request = CallLayers("r1", headers, b'{"model":"m"}', False, subset)
        self.sequence = LayerSequence(
            shared, request, lease_id="lease-1", arrived_at=NOW - 0.25, arrived_at_wall=1_700.0
        )
        self.step: Step = self.sequence.begin(NOW)

    def answered(self, *replies: Any, now: float = NOW) -> Step:
        for reply in replies:
            if isinstance(reply, Exception):
                assert isinstance(reply, LayerUnavailableError | LayerFailedError)
                self.step = self.sequence.failed(reply, now)
            else:
                self.step = self.sequence.answered(reply, now)
        return self.step

    @property
    def hop(self) -> str:
        assert isinstance(self.step, Call)
        return self.step.hop.value

    @property
    def asked(self) -> Any:
        assert isinstance(self.step, Call)
        return self.step.message

    @property
    def refused(self) -> Refused:
        assert isinstance(self.step, Refused)
        return self.step

    @property
    def dispatched(self) -> Dispatched:
        assert isinstance(self.step, Dispatched)
        return self.step


def test_the_layers_are_asked_in_order_and_the_answer_is_a_dispatch() -> None:
    story = Story()
    assert story.hop == "router"
    assert (story.asked.pool, story.asked.body) == (POOL, b'{"model":"m"}')
    story.answered(ROUTED)
    assert story.hop == "flow-controller"
    assert story.asked.lease_id == "lease-1"
    assert story.asked.descriptor.arrived_at == 1_700.0
    story.answered(ADMITTED)
    assert story.hop == "scheduler"
    story.answered(picked("10.0.0.2:8000", "10.0.0.1:8000"))
    assert story.dispatched.destinations == (
        Destination("e2", "10.0.0.2:8000"),
        Destination("e1", "10.0.0.1:8000"),
    )
    assert story.dispatched.body is None
    assert not story.dispatched.unscheduled


def test_an_admission_is_asked_for_with_the_age_of_the_request() -> None:
    story = Story()
    story.answered(ROUTED, now=NOW + 1.5)
    assert story.asked.age_ms == 1_750


@pytest.mark.parametrize(
    ("position", "wait_ms", "headers"),
    [
        (7, 1_200, {"x-pointsman-queue-position": b"7", "x-pointsman-estimated-wait-ms": b"1200"}),
        (7, 0, {"x-pointsman-queue-position": b"7"}),
        (0, 0, {}),
    ],
)
def test_a_refused_client_is_told_of_the_queue(
    position: int, wait_ms: int, headers: dict[str, bytes]
) -> None:
    story = Story()
    no = flow_pb2.AdmitResponse(
        rejection=Rejection(http_status=429, retry_after_s=2),
        queue_position=position,
        estimated_wait_ms=wait_ms,
    )
    story.answered(ROUTED, no)
    assert dict(story.refused.headers) == headers


def test_each_hop_has_its_own_deadline_within_that_of_the_request() -> None:
    story = Story(request_timeout_s=10.0)
    assert isinstance(story.step, Call)
    assert story.step.timeout_s == 2.0
    step = story.answered(ROUTED, now=NOW + 1.5)
    assert isinstance(step, Call)
    assert step.timeout_s == 8.5
    step = story.answered(ADMITTED, now=NOW + 9.75)
    assert isinstance(step, Call)
    assert step.timeout_s == 0.25


def test_destination_headers_of_a_client_are_kept_from_the_router() -> None:
    story = Story(
        headers=(
            ("x-gateway-destination-endpoint", b"6.6.6.6:1"),
            ("x-prefiller-host-port", b"6.6.6.6:1"),
            ("x-llm-d-inference-objective", b"gold"),
        )
    )
    assert [item.key for item in story.asked.headers] == ["x-llm-d-inference-objective"]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_rejection_of_any_layer_is_the_answer_as_it_is(stage: int) -> None:
    why = Rejection(http_status=418, code="BadRequest", message="no")
    rejections = [
        routing_pb2.RouteResponse(rejection=why),
        flow_pb2.AdmitResponse(rejection=why),
        scheduling_pb2.PickResponse(rejection=why),
    ]
    story = Story(fail_open=tuple(Hop))
    story.answered(*[ROUTED, ADMITTED][:stage], rejections[stage])
    assert story.refused.rejection == why
    # A layer may have counted the request from the admission on: its lease must be told to end.
    assert story.refused.lease_id == ("lease-1" if stage else "")
    assert (story.refused.descriptor is not None) == (stage > 0)


@pytest.mark.parametrize(
    ("hop", "before"), [(Hop.ROUTE, ()), (Hop.ADMIT, (ROUTED,)), (Hop.PICK, (ROUTED, ADMITTED))]
)
def test_a_layer_that_is_gone_fails_closed_with_its_name(hop: Hop, before: Any) -> None:
    story = Story()
    story.answered(*before, GONE(hop.value, "no replica answers"))
    assert story.refused.rejection.http_status == 503
    assert hop.value in story.refused.rejection.message
    assert story.degraded == []


def test_a_layer_that_fails_closed_with_an_error_of_its_own_is_a_500() -> None:
    story = Story()
    story.answered(ROUTED, LayerFailedError("flow-controller", "INTERNAL"))
    assert story.refused.rejection.http_status == 500
    assert "flow-controller" in story.refused.rejection.message


def test_without_routers_the_body_goes_on_with_the_model_of_a_header() -> None:
    story = Story(fail_open=(Hop.ROUTE,), headers=(("x-gateway-model-name", b"mine"),))
    story.answered(GONE("router", "gone"))
    descriptor = story.asked.descriptor
    assert (descriptor.model, descriptor.target_model) == ("mine", "mine")
    assert (descriptor.priority, descriptor.fairness_id) == (0, "default-flow")
    assert (descriptor.pool, descriptor.arrived_at) == (POOL, 1_700.0)
    assert descriptor.body_bytes == 13
    story.answered(ADMITTED, picked("10.0.0.1:8000"))
    assert story.dispatched.body is None
    assert story.degraded == [Hop.ROUTE]


def test_without_routers_and_a_header_the_default_model_is_taken() -> None:
    story = Story(fail_open=(Hop.ROUTE,), default_model="llama")
    story.answered(GONE("router", "gone"))
    assert story.asked.descriptor.model == "llama"


def test_without_flow_controllers_the_request_is_let_through_unguarded() -> None:
    story = Story(fail_open=(Hop.ADMIT,))
    story.answered(ROUTED, GONE("flow-controller", "gone"), picked("10.0.0.1:8000"))
    assert story.dispatched.destinations[0].uid == "e1"
    assert story.degraded == [Hop.ADMIT]


def test_without_schedulers_the_edge_takes_ready_endpoints_of_the_subset_in_turn() -> None:
    story = Story(fail_open=(Hop.PICK,), subset=("10.0.0.3",))
    story.answered(ROUTED, ADMITTED, GONE("scheduler", "gone"))
    assert story.dispatched.destinations == (Destination("e3", "10.0.0.3:8000"),)
    assert story.dispatched.unscheduled
    assert story.degraded == [Hop.PICK]


@pytest.mark.parametrize("endpoints", [None, ()])
def test_without_schedulers_and_endpoints_there_is_a_503_with_the_reason(
    endpoints: tuple[int, ...] | None,
) -> None:
    story = Story(fail_open=(Hop.PICK,), endpoints=endpoints)
    story.answered(ROUTED, ADMITTED, GONE("scheduler", "gone"))
    assert story.refused.rejection.http_status == 503
    assert story.refused.rejection.reason == "rejected-no-endpoints"


@pytest.mark.parametrize(
    "replies",
    [
        (routing_pb2.RouteResponse(),),
        (routing_pb2.RouteResponse(routed=routing_pb2.Routed()),),
        (ROUTED, flow_pb2.AdmitResponse()),
        (ROUTED, ADMITTED, scheduling_pb2.PickResponse()),
        (ROUTED, ADMITTED, picked()),
    ],
)
def test_an_answer_that_says_nothing_is_a_500_and_never_a_crash(replies: tuple[Any, ...]) -> None:
    story = Story()
    story.answered(*replies)
    assert story.refused.rejection.http_status == 500


def test_a_patch_is_applied_and_one_that_does_not_fit_is_a_500() -> None:
    def with_splice(offset: int) -> routing_pb2.RouteResponse:
        reply = routing_pb2.RouteResponse()
        reply.CopyFrom(ROUTED)
        splice = routing_pb2.Splice(offset=offset, removed=1, inserted=b"other")
        reply.routed.body_patch.splices.splices.append(splice)
        return reply

    story = Story()
    story.answered(with_splice(10), ADMITTED, picked("10.0.0.1:8000"))
    assert story.dispatched.body == b'{"model":"other"}'
    story = Story()
    story.answered(with_splice(13))
    assert story.refused.rejection.http_status == 500
    assert "router" in story.refused.rejection.message


def test_an_endpoint_unknown_here_is_asked_for_once_more_then_refused() -> None:
    story = Story()
    step = story.answered(ROUTED, ADMITTED, picked("6.6.6.6:1"))
    assert isinstance(step, Pause)
    story.step = story.sequence.resumed(NOW + step.seconds)
    assert story.hop == "scheduler"
    story.answered(picked("6.6.6.6:1"))
    assert story.refused.rejection.http_status == 500
    assert "not of this pool" in story.refused.rejection.message


def test_unknown_endpoints_beside_known_ones_are_left_out() -> None:
    story = Story()
    story.answered(ROUTED, ADMITTED, picked("6.6.6.6:1", "10.0.0.1:8000"))
    assert [item.address for item in story.dispatched.destinations] == ["10.0.0.1:8000"]


def test_as_long_as_the_pool_is_not_known_a_well_formed_address_is_believed() -> None:
    story = Story(endpoints=None)
    story.answered(ROUTED, ADMITTED, picked("10.0.0.1:8000"))
    assert story.dispatched.destinations == (Destination("", "10.0.0.1:8000"),)
    story = Story(endpoints=None)
    step = story.answered(ROUTED, ADMITTED, picked("10.0.0.1:80\r\nx-evil: 1:8"))
    assert isinstance(step, Pause)


def test_candidates_are_sent_to_layers_that_want_them_after_the_subset() -> None:
    story = Story(candidates=True, subset=("10.0.0.1", "10.0.0.2"))
    story.answered(ROUTED, ADMITTED)
    assert [item.uid for item in story.asked.candidates] == ["e1", "e2"]
    assert story.asked.candidates[0].metrics.HasField("waiting_requests")
    story = Story()
    story.answered(ROUTED, ADMITTED)
    assert not story.asked.candidates


def test_the_subset_reaches_the_router_and_the_later_layers_even_when_empty() -> None:
    story = Story(subset=())
    assert story.asked.HasField("subset")
    story.answered(ROUTED)
    assert story.asked.descriptor.HasField("subset")
    story = Story()
    assert not story.asked.HasField("subset")


def test_header_edits_of_router_and_scheduler_are_joined() -> None:
    route, pick = routing_pb2.RouteResponse(), picked("10.0.0.1:8000")
    route.CopyFrom(ROUTED)
    edit = HeaderMutation(set=[HeaderValue(key="X-A", value=b"1")], remove=["x-b"])
    route.routed.headers.CopyFrom(edit)
    pick.picked.headers.set.append(HeaderValue(key="x-c", value=b"2"))
    story = Story()
    story.answered(route, ADMITTED, pick)
    assert story.dispatched.set_headers == (("x-a", b"1"), ("x-c", b"2"))
    assert story.dispatched.remove_headers == ("x-b",)
