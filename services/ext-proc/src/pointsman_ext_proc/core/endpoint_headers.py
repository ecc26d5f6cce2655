"""Names and forms of the headers that steer a request: what is set, and what a client may not."""

from collections.abc import Iterable

from pointsman_common.contracts.flow_pb2 import AdmitResponse
from pointsman_ext_proc.core.exchange_events import (
    Destination,
    Dispatched,
    HeaderEdit,
    Headers,
)

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
SUBSET = "x-gateway-destination-endpoint-subset"
SCORES = "x-gateway-destination-endpoint-scores"
DROPPED_REASON = "x-llm-d-request-dropped-reason"
LEASE_ID = "x-pointsman-lease-id"
QUEUE_POSITION = "x-pointsman-queue-position"
ESTIMATED_WAIT = "x-pointsman-estimated-wait-ms"
CONFORMANCE_SERVED = "x-conformance-test-served-endpoint"
REQUEST_ID = "x-request-id"
PREFILLER = "x-prefiller-host-port"
ENCODERS = "x-encoder-hosts-ports"

METADATA_NAMESPACE = "envoy.lb"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"

_ALWAYS_REMOVED = (PREFILLER, ENCODERS)
"""A sidecar obeys them, and there may be none to overwrite."""

NOT_FROM_CLIENTS = frozenset({DESTINATION, SERVED, SUBSET, DROPPED_REASON, PREFILLER, ENCODERS})
"""A layer never sees these of a client."""

CONTROL_HEADERS = NOT_FROM_CLIENTS | {
    "x-llm-d-inference-objective",
    "x-gateway-inference-objective",
    "x-llm-d-inference-fairness-id",
    "x-gateway-inference-fairness-id",
    "x-llm-d-model-name-rewrite",
    "x-gateway-model-name-rewrite",
    "x-llm-d-slo-ttft-ms",
    "x-slo-ttft-ms",
    "x-llm-d-slo-tpot-ms",
    "x-slo-tpot-ms",
    "x-llm-d-video-fps",
    "x-llm-d-video-duration-seconds",
    "x-llm-d-video-resolution",
}
"""Meant for the layers: none of them reaches a model server as a client sent it."""

_OWNED_BY_THE_EDGE = frozenset(
    {DESTINATION, SERVED, SUBSET, DROPPED_REASON, "content-length", "transfer-encoding"}
)
_CLOSED_TO_REMOVAL = frozenset({"host", *_OWNED_BY_THE_EDGE})


def header(headers: Headers, name: str) -> str | None:
    """The first value of a header, given its lower-case name."""
    for key, value in headers:
        if key == name:
            return value.decode("utf-8", "replace")
    return None


def queue_headers(refused: AdmitResponse) -> Headers:
    """What a refused client is told of the queue that it was in, or would have been in."""
    told = (
        (QUEUE_POSITION, refused.queue_position),
        (ESTIMATED_WAIT, refused.estimated_wait_ms),
    )
    return tuple([(name, b"%d" % value) for name, value in told if value])


def destination_value(destinations: Iterable[Destination]) -> str:
    """`ip:port[,ip:port…]`, primary first."""
    return ",".join([destination.address for destination in destinations])


def request_edit(
    client: Headers, dispatched: Dispatched, *, content_length: int, made_up_request_id: str
) -> HeaderEdit:
    """What to change in a request's headers before it goes to its endpoint.

    The destination comes first. `content_length` of 0 sets none. Nothing that is set is removed.
    """
    edits: list[tuple[str, bytes]] = [
        (DESTINATION, destination_value(dispatched.destinations).encode())
    ]
    if content_length:
        edits.append(("Content-Length", b"%d" % content_length))
    if made_up_request_id:
        edits.append((REQUEST_ID, made_up_request_id.encode()))
    edits += [item for item in dispatched.set_headers if item[0] not in _OWNED_BY_THE_EDGE]
    is_set = {name for name, _ in edits}
    unwanted = [
        *_ALWAYS_REMOVED,
        *[name for name, _ in client if name in CONTROL_HEADERS],
        *[
            name
            for name in dispatched.remove_headers
            if name not in _CLOSED_TO_REMOVAL and not name.startswith(":")
        ],
    ]
    removed = [name for name in dict.fromkeys(unwanted) if name not in is_set]
    return HeaderEdit(tuple(edits), tuple(removed))
