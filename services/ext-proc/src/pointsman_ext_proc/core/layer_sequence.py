"""Route, admit, pick: in which order, for how long, and what a failure of each means. It makes no
call itself: it says which one is next and is told how it ended.

    begin ──▶ ROUTE ──routed──▶ ADMIT ──admitted──▶ PICK ──picked──▶ Dispatched
               │ rejected        │ rejected          │ rejected
               └────────▶ Refused ◀──────────────────┘
    A hop that fails: failClosed ──▶ Refused, 503 naming the layer; failOpen ──▶ on without it.
    A pick that names only endpoints unknown here ──▶ Pause once, then PICK again, then Refused.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import msgspec
from google.protobuf.message import Message

from pointsman_common.contract_codec import encode_endpoint
from pointsman_common.contracts import flow_pb2, routing_pb2, scheduling_pb2
from pointsman_common.contracts.layer_pb2 import HeaderMutation, Rejection
from pointsman_common.contracts.routing_pb2 import EndpointSubset
from pointsman_common.deadline import Deadline
from pointsman_common.error_mapping import REJECTED_NO_ENDPOINTS, rejection, rejection_of
from pointsman_common.errors import LayerFailedError, LayerUnavailableError
from pointsman_ext_proc.core.body_pieces import patched
from pointsman_ext_proc.core.endpoint_directory import EndpointDirectory
from pointsman_ext_proc.core.endpoint_headers import NOT_FROM_CLIENTS, header, queue_headers
from pointsman_ext_proc.core.exchange_events import (
    CallLayers,
    Destination,
    Dispatched,
    Headers,
    Refused,
)
from pointsman_ext_proc.core.last_resort import LastResort
from pointsman_ext_proc.core.open_lease import milliseconds

DEFAULT_FLOW = "default-flow"
BYTES_PER_TOKEN = 4
"""For the prompt estimate of a request that no router has read; upstream's figure."""

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+):\d{1,5}")

RECHECK_S = 0.05
"""An endpoint may be known to a scheduler an instant before the edge hears of it."""


class Hop(StrEnum):
    """The layer's name, as in messages and metrics."""

    ROUTE = "router"
    ADMIT = "flow-controller"
    PICK = "scheduler"


class Call(msgspec.Struct, frozen=True):
    """Ask a layer; come back with `answered` or `failed`."""

    hop: Hop
    message: Message
    timeout_s: float


class Pause(msgspec.Struct, frozen=True):
    """Come back with `resumed` after this time."""

    seconds: float


Step = Call | Pause | Dispatched | Refused
LayerError = LayerUnavailableError | LayerFailedError


@dataclass(frozen=True, slots=True)
class SequenceRules:
    """Times in seconds. `fail_open` holds the layers that a request may do without."""

    pool: str
    timeouts_s: dict[Hop, float]
    request_timeout_s: float = 70.0
    fail_open: frozenset[Hop] = frozenset()
    default_model: str = ""
    model_header: str = "x-gateway-model-name"
    want_scores: bool = False


@dataclass(slots=True)
class Shared:
    """What all sequences of an edge use together."""

    rules: SequenceRules
    directory: EndpointDirectory
    last_resort: LastResort
    wants_candidates: Callable[[], bool]
    on_degraded: Callable[[Hop], None] = lambda _: None
    """Told when a request goes on without a layer."""


class LayerSequence:
    def __init__(
        self,
        shared: Shared,
        request: CallLayers,
        *,
        lease_id: str,
        arrived_at: float,
        arrived_at_wall: float,
    ) -> None:
        """`arrived_at` is in monotonic seconds, `arrived_at_wall` in seconds since 1970."""
        self._shared, self._rules = shared, shared.rules
        self._request, self._lease_id = request, lease_id
        self._arrived_at, self._arrived_at_wall = arrived_at, arrived_at_wall
        self._hop = Hop.ROUTE
        self._deadline = Deadline(0.0)
        self._routed = routing_pb2.Routed()
        self._counted = False
        self._body: bytes | None = None
        self._rechecked = False

    @property
    def counted(self) -> bool:
        """Whether a layer may have counted the request under the lease's id."""
        return self._counted

    def begin(self, now: float) -> Step:
        """Times are monotonic seconds, here and below."""
        self._deadline = Deadline.after(now, self._rules.request_timeout_s)
        request = self._request
        message = routing_pb2.RouteRequest(
            request_id=request.request_id,
            pool=self._rules.pool,
            body=request.body,
            bodiless=request.bodiless,
            subset=_subset(request.subset),
            arrived_at=self._arrived_at_wall,
        )
        add = message.headers.add
        for name, value in request.headers:
            if name not in NOT_FROM_CLIENTS:
                # In place: made apart, each would be copied, which takes three times as long.
                added = add()
                added.key = name
                added.value = value
        return self._call(Hop.ROUTE, message, now)

    def answered(self, reply: Message, now: float) -> Step:
        """The layer asked last has answered."""
        if isinstance(reply, routing_pb2.RouteResponse):
            return self._after_route(reply, now)
        if isinstance(reply, flow_pb2.AdmitResponse):
            return self._after_admit(reply, now)
        if isinstance(reply, scheduling_pb2.PickResponse):
            return self._after_pick(reply, now)
        raise TypeError(f"no layer answers with {type(reply).__name__}")

    def failed(self, error: LayerError, now: float) -> Step:
        """The layer asked last did not answer."""
        if self._hop not in self._rules.fail_open:
            return self._refuse(rejection_of(error))
        self._shared.on_degraded(self._hop)
        if self._hop is Hop.ROUTE:
            return self._admit(routing_pb2.Routed(descriptor=self._plain_descriptor()), now)
        if self._hop is Hop.ADMIT:
            return self._pick(now)
        return self._pick_as_last_resort()

    def resumed(self, now: float) -> Step:
        return self._pick(now)

    def _call(self, hop: Hop, message: Message, now: float) -> Call:
        self._hop = hop
        return Call(hop, message, self._deadline.left(now, at_most=self._rules.timeouts_s[hop]))

    def _refuse(self, why: Rejection, headers: Headers = ()) -> Refused:
        descriptor = self._routed.descriptor if self._hop is not Hop.ROUTE else None
        return Refused(why, descriptor, self._lease_id if self._counted else "", headers)

    def _after_route(self, reply: routing_pb2.RouteResponse, now: float) -> Step:
        outcome = reply.WhichOneof("outcome")
        if outcome == "rejection":
            return self._refuse(reply.rejection)
        if outcome is None or not reply.routed.descriptor.request_id:
            return self._broken("it answered neither a descriptor nor a rejection", now)
        if reply.routed.HasField("body_patch"):
            try:
                self._body = patched(self._request.body, reply.routed.body_patch)
            except ValueError as error:
                return self._broken(f"its body patch does not fit: {error}", now)
        return self._admit(reply.routed, now)

    def _admit(self, routed: routing_pb2.Routed, now: float) -> Step:
        self._routed = routed
        descriptor = routed.descriptor
        # What the edge knows for certain, whatever the router made of it.
        descriptor.pool = self._rules.pool
        descriptor.arrived_at = self._arrived_at_wall
        if not descriptor.fairness_id:
            descriptor.fairness_id = DEFAULT_FLOW
        if self._request.subset is not None:
            descriptor.subset.CopyFrom(EndpointSubset(endpoints=self._request.subset))
        self._counted = True
        message = flow_pb2.AdmitRequest(
            descriptor=descriptor,
            lease_id=self._lease_id,
            age_ms=milliseconds(now - self._arrived_at),
        )
        return self._call(Hop.ADMIT, message, now)

    def _after_admit(self, reply: flow_pb2.AdmitResponse, now: float) -> Step:
        result = reply.WhichOneof("result")
        if result == "rejection":
            return self._refuse(reply.rejection, queue_headers(reply))
        if result is None:
            return self._broken("it answered neither an admission nor a rejection", now)
        return self._pick(now)

    def _pick(self, now: float) -> Step:
        message = scheduling_pb2.PickRequest(
            descriptor=self._routed.descriptor,
            lease_id=self._lease_id,
            want_scores=self._rules.want_scores,
        )
        if self._shared.wants_candidates():
            message.candidates.extend(
                encode_endpoint(endpoint, now)
                for endpoint in self._shared.directory.ready(self._subset)
            )
        return self._call(Hop.PICK, message, now)

    def _after_pick(self, reply: scheduling_pb2.PickResponse, now: float) -> Step:
        result = reply.WhichOneof("result")
        if result == "rejection":
            return self._refuse(reply.rejection)
        if result is None or not reply.picked.endpoints:
            return self._broken("it answered neither an endpoint nor a rejection", now)
        destinations = [
            found
            for endpoint in reply.picked.endpoints
            if (found := self._destination(endpoint)) is not None
        ]
        if destinations:
            return self._dispatch(tuple(destinations), reply.picked)
        if not self._rechecked:
            self._rechecked = True
            return Pause(RECHECK_S)
        return self._broken("it named endpoints that are not of this pool", now)

    def _destination(self, picked: scheduling_pb2.PickedEndpoint) -> Destination | None:
        directory = self._shared.directory
        endpoint = directory.find(picked.address)
        if endpoint is not None:
            return Destination(endpoint.uid, endpoint.address)
        # Nothing to check against but the form, which keeps other headers out of the value.
        if not directory.known and _ADDRESS.fullmatch(picked.address):
            return Destination(picked.uid, picked.address)
        return None

    def _pick_as_last_resort(self) -> Step:
        destinations = self._shared.last_resort.pick(self._shared.directory.ready(self._subset))
        if not destinations:
            return self._refuse(
                rejection(
                    "ServiceUnavailable",
                    "no ready endpoint is known, and no scheduler is reachable",
                    reason=REJECTED_NO_ENDPOINTS,
                )
            )
        picked = scheduling_pb2.Picked(prefill_tokens=self._routed.descriptor.prompt_tokens)
        return self._dispatch(destinations, picked, unscheduled=True)

    def _dispatch(
        self,
        destinations: tuple[Destination, ...],
        picked: scheduling_pb2.Picked,
        *,
        unscheduled: bool = False,
    ) -> Dispatched:
        routed = self._routed
        return Dispatched(
            lease_id=self._lease_id,
            descriptor=routed.descriptor,
            destinations=destinations,
            picked=picked,
            body=self._body,
            set_headers=(*_to_set(routed.headers), *_to_set(picked.headers)),
            remove_headers=(*routed.headers.remove, *picked.headers.remove),
            wants_usage=routed.wants_usage,
            model_in_answer=routed.model_in_answer,
            unscheduled=unscheduled,
        )

    def _broken(self, why: str, now: float) -> Step:
        return self.failed(LayerFailedError(self._hop.value, why), now)

    @property
    def _subset(self) -> tuple[str, ...] | None:
        return self._request.subset

    def _plain_descriptor(self) -> routing_pb2.RequestDescriptor:
        request, rules = self._request, self._rules
        model = header(request.headers, rules.model_header) or rules.default_model
        return routing_pb2.RequestDescriptor(
            request_id=request.request_id,
            model=model,
            target_model=model,
            prompt_tokens=len(request.body) // BYTES_PER_TOKEN,
            body_bytes=len(request.body),
            api="passthrough",
            bodiless=request.bodiless,
        )


def _subset(subset: tuple[str, ...] | None) -> EndpointSubset | None:
    return None if subset is None else EndpointSubset(endpoints=subset)


def _to_set(mutation: HeaderMutation) -> Headers:
    return tuple([(item.key.lower(), item.value) for item in mutation.set])
