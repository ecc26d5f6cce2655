"""What header blocks say about a call: the heads of requests and responses, and trailers.

Parsed once per different block: the result rides on the block's `memo` (see `hpack_cache`).
"""

from collections.abc import Mapping
from functools import cached_property

from wire.grpc.call_ends import parse_message, parse_status
from wire.grpc.timeouts import parse_timeout
from wire.http2.header_encoding import encode_fields
from wire.http2.header_rules import request_pseudo_fields, response_status
from wire.http2.hpack_cache import HeaderBlock
from wire.status import RpcError, RpcStatus

CONTENT_TYPE = b"application/grpc"
USER_AGENT = b"wire-python"
RESPONSE_HEAD = encode_fields([(b":status", b"200"), (b"content-type", CONTENT_TYPE)])

_NOT_METADATA = frozenset((b"te", b"content-type", b"grpc-timeout", b"grpc-encoding"))


class RequestHead:
    """A request as a server sees it."""

    def __init__(self, block: HeaderBlock) -> None:
        """Raises Http2StreamError when the block is malformed."""
        pseudo = request_pseudo_fields(block)
        self.path = pseudo[b":path"].decode("latin-1")
        self.http_refusal: bytes | None = None
        """The HTTP status of a request that is no gRPC call at all."""
        self.refusal: RpcError | None = None
        """The end of a call whose head is wrong."""
        self.timeout_s: float | None = None
        is_grpc = False
        self._regular = block.fields[len(pseudo) :]
        for name, value in self._regular:
            if name == b"content-type":
                is_grpc = value.startswith(CONTENT_TYPE)
            elif name == b"grpc-timeout":
                self._take_timeout(value)
        if pseudo[b":method"] != b"POST":
            self.http_refusal = b"405"
        elif not is_grpc:
            self.http_refusal = b"415"

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """By lower-case key; binary values are left out."""
        return {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in self._regular
            if name not in _NOT_METADATA and not name.endswith(b"-bin")
        }

    def _take_timeout(self, value: bytes) -> None:
        try:
            self.timeout_s = parse_timeout(value)
        except ValueError as error:
            self.refusal = RpcError(RpcStatus.INTERNAL, str(error))


class ResponseHead:
    """The head or the trailers of a response as a client sees them."""

    __slots__ = ("http_status", "is_grpc", "message", "status")

    def __init__(self, block: HeaderBlock) -> None:
        """Raises Http2StreamError when the block is malformed."""
        self.http_status = response_status(block)
        """`None`: these are trailers."""
        self.is_grpc = False
        self.status: RpcStatus | None = None
        self.message = ""
        for name, value in block.fields:
            if name == b"grpc-status":
                self.status = parse_status(value)
            elif name == b"grpc-message":
                self.message = parse_message(value)
            elif name == b"content-type":
                self.is_grpc = value.startswith(CONTENT_TYPE)


def request_head_of(block: HeaderBlock) -> RequestHead:
    head = block.memo
    if not isinstance(head, RequestHead):
        head = block.memo = RequestHead(block)
    return head


def response_head_of(block: HeaderBlock) -> ResponseHead:
    head = block.memo
    if not isinstance(head, ResponseHead):
        head = block.memo = ResponseHead(block)
    return head


def encode_request_head(*, path: str, authority: str, scheme: str) -> bytes:
    """What all calls of one method begin with; a timeout and metadata may be appended."""
    return encode_fields(
        [
            (b":method", b"POST"),
            (b":scheme", scheme.encode()),
            (b":path", path.encode()),
            (b":authority", authority.encode()),
            (b"te", b"trailers"),
            (b"content-type", CONTENT_TYPE),
            (b"user-agent", USER_AGENT),
        ]
    )


def encode_metadata(metadata: Mapping[str, str]) -> bytes:
    return encode_fields(
        [(name.lower().encode(), value.encode("latin-1")) for name, value in metadata.items()]
    )
