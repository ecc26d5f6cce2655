"""What may come in for one HTTP exchange, and what may go out. No Envoy types: see
adapters/envoy_messages.py for the translation."""

from collections.abc import Mapping
from enum import Enum

import msgspec

from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.contracts.scheduling_pb2 import Picked

Headers = tuple[tuple[str, bytes], ...]
"""In order; names in lower case."""

MAX_PIECE_BYTES = 62_000
"""Longest body in one message to Envoy: some gateways cap a message at 64 KB."""


class BodyMode(Enum):
    """How a gateway sends a body; numbers as in Envoy's ProcessingMode.BodySendMode."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX_STREAMED = 4
    GRPC = 5


class Modes(msgspec.Struct, frozen=True):
    """What the gateway said in its first message; these defaults where it said nothing."""

    request: BodyMode = BodyMode.FULL_DUPLEX_STREAMED
    response: BodyMode = BodyMode.FULL_DUPLEX_STREAMED


# --- in ---


class RequestHeaders(msgspec.Struct, frozen=True):
    headers: Headers
    end_of_stream: bool = False
    subset: tuple[str, ...] | None = None
    """Endpoints that the gateway allows; `None`: it did not say."""
    modes: Modes = Modes()


class RequestBody(msgspec.Struct, frozen=True):
    body: bytes
    end_of_stream: bool = False
    subset: tuple[str, ...] | None = None


class RequestTrailers(msgspec.Struct, frozen=True):
    subset: tuple[str, ...] | None = None


class ResponseHeaders(msgspec.Struct, frozen=True):
    headers: Headers
    end_of_stream: bool = False
    served: str = ""
    """`ip:port` of the endpoint that answers; empty: the gateway did not say."""


class ResponseBody(msgspec.Struct, frozen=True):
    body: bytes
    end_of_stream: bool = False


class ResponseTrailers(msgspec.Struct, frozen=True):
    pass


class Destination(msgspec.Struct, frozen=True):
    uid: str
    """Empty: the address alone is known."""
    address: str
    """`ip:port`, IPv6 in brackets."""


class Dispatched(msgspec.Struct, frozen=True):
    """The layers let the request go."""

    lease_id: str
    descriptor: RequestDescriptor
    destinations: tuple[Destination, ...]
    """Primary first, then the fallbacks; never empty."""
    picked: Picked
    body: bytes | None = None
    """To be sent in place of the client's; `None`: that one, byte for byte."""
    set_headers: Headers = ()
    remove_headers: tuple[str, ...] = ()
    wants_usage: bool = False
    model_in_answer: str = ""
    """Name to put in place of the target model in the answer; empty: leave it."""
    unscheduled: bool = False
    """No scheduler answered: the edge picked."""


class Refused(msgspec.Struct, frozen=True):
    """A layer, or the edge for it, said no."""

    rejection: Rejection
    descriptor: RequestDescriptor | None = None
    """As far as the request was understood."""
    lease_id: str = ""
    """Set when a layer may have counted the request under it."""
    headers: Headers = ()
    """Of the answer, beyond those of the rejection."""


class LayersAnswered(msgspec.Struct, frozen=True):
    decision: Dispatched | Refused


class PeerClosed(msgspec.Struct, frozen=True):
    """The gateway has sent its last message: the exchange is over."""


class Cancelled(msgspec.Struct, frozen=True):
    """The gateway reset the stream: the client is gone, unless the answer was through."""


class Evicted(msgspec.Struct, frozen=True):
    """A flow controller needs the room of this request, which is to end."""


Event = (
    RequestHeaders
    | RequestBody
    | RequestTrailers
    | ResponseHeaders
    | ResponseBody
    | ResponseTrailers
    | LayersAnswered
    | PeerClosed
    | Cancelled
    | Evicted
)


# --- out, to the gateway ---


class HeaderEdit(msgspec.Struct, frozen=True):
    """Removals come first; what is set overwrites."""

    set: Headers = ()
    remove: tuple[str, ...] = ()


class DestinationMetadata(msgspec.Struct, frozen=True):
    """Dynamic metadata in the namespace `envoy.lb`."""

    endpoints: str
    lease_id: str
    scores: Mapping[str, float] | None = None


class ContinueRequestHeaders(msgspec.Struct, frozen=True):
    """Nothing to change yet; the decision comes with the body."""


class RoutedHeaders(msgspec.Struct, frozen=True):
    """Answers the request headers with the decision."""

    edit: HeaderEdit
    metadata: DestinationMetadata


class RoutedBody(msgspec.Struct, frozen=True):
    """Answers a whole buffered body with the decision; `body` `None` leaves it as it is."""

    edit: HeaderEdit
    metadata: DestinationMetadata
    body: bytes | None


class RequestBodyPiece(msgspec.Struct, frozen=True):
    body: bytes
    end_of_stream: bool


class ContinueRequestTrailers(msgspec.Struct, frozen=True):
    pass


class AnsweredHeaders(msgspec.Struct, frozen=True):
    """Answers the response headers."""

    set: Headers = ()
    remove: tuple[str, ...] = ()


class ResponseBodyPiece(msgspec.Struct, frozen=True):
    body: bytes
    end_of_stream: bool


class ContinueResponseBody(msgspec.Struct, frozen=True):
    pass


class ReplacedResponseBody(msgspec.Struct, frozen=True):
    body: bytes
    is_whole: bool
    """The gateway wants the length of a whole body put right with it."""


class ContinueResponseTrailers(msgspec.Struct, frozen=True):
    pass


class Refusal(msgspec.Struct, frozen=True):
    """An immediate response; the stream ends after it."""

    rejection: Rejection
    headers: Headers = ()
    """Beyond those of the rejection."""


Reply = (
    ContinueRequestHeaders
    | RoutedHeaders
    | RoutedBody
    | RequestBodyPiece
    | ContinueRequestTrailers
    | AnsweredHeaders
    | ResponseBodyPiece
    | ContinueResponseBody
    | ReplacedResponseBody
    | ContinueResponseTrailers
    | Refusal
)


# --- out, to the rest of the edge ---


class CallLayers(msgspec.Struct, frozen=True):
    """Ask the layers, and come back with LayersAnswered."""

    request_id: str
    headers: Headers
    body: bytes
    bodiless: bool
    subset: tuple[str, ...] | None


class LeaseOpened(msgspec.Struct, frozen=True):
    """Precedes the replies that send the request on its way."""

    dispatched: Dispatched
    request_bytes: int


class LeaseServed(msgspec.Struct, frozen=True):
    """The gateway told which endpoint answers."""

    address: str


class FirstChunk(msgspec.Struct, frozen=True):
    """The first bytes of a good answer came: of a stream, its first token."""

    streaming: bool


class Usage(msgspec.Struct, frozen=True):
    """Token counts of the engine; `None`: not told."""

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None


class AnswerEnded(msgspec.Struct, frozen=True):
    """The lease can be closed."""

    http_status: int
    """0: there was no answer."""
    cause: str
    """finished, client-gone or evicted."""
    response_bytes: int = 0
    usage: Usage | None = None


class Unrouted(msgspec.Struct, frozen=True):
    """The request ended before it was sent anywhere."""

    refused: Refused | None
    """`None`: the client went, or it was evicted."""
    evicted: bool = False


class EndStream(msgspec.Struct, frozen=True):
    """End the ext_proc stream with OK."""


Signal = CallLayers | LeaseOpened | LeaseServed | FirstChunk | AnswerEnded | Unrouted | EndStream
Action = Reply | Signal
