"""What header blocks say about a call: the heads of requests and responses, and trailers.

Parsed once per different block: the result rides on the block's `memo` (see `hpack_cache`).
"""

from collections.abc import Mapping
from functools import cached_property

from wire.grpc.call_ends import parse_message, parse_status
from wire.grpc.metadata import binary_metadata, text_metadata
from wire.grpc.timeouts import parse_timeout
from wire.http2.header_encoding import encode_fields
from wire.http2.header_rules import request_pseudo_fields, response_status
from wire.http2.hpack_cache import HeaderBlock
from wire.status import Metadata, RpcError, RpcStatus

CONTENT_TYPE = b"application/grpc"
USER_AGENT = b"wire-python"
RESPONSE_HEAD = encode_fields([(b":status", b"200"), (b"content-type", CONTENT_TYPE)])


_SAYS_MORE = frozenset((b"content-type", b"grpc-timeout"))
"""Fields of a request that are more than metadata."""


class RequestHead:
    """A request as a server sees it."""

    def __init__(self, block: HeaderBlock) -> None:
        """Raises Http2StreamError when the block is malformed."""
        self._fields = block.fields
        self.http_refusal: bytes | None = None
        """The HTTP status of a request that is no gRPC call at all."""
        self.refusal: RpcError | None = None
        """The end of a call whose head is wrong."""
        self.timeout_s: float | None = None
        known = _head_of_like(block)
        if known is not None:
            self.path: str = known.path
            self.timeout_s = known.timeout_s
            self.http_refusal, self.refusal = known.http_refusal, known.refusal
            return
        pseudo = request_pseudo_fields(block)
        self.path = pseudo[b":path"].decode("latin-1")
        is_grpc = False
        for name, value in block.fields:
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
        """Text, by lower-case key."""
        return text_metadata(self._fields)

    @cached_property
    def binary_metadata(self) -> Mapping[str, bytes]:
        """By lower-case key, which ends with `-bin`."""
        return binary_metadata(self._fields)

    def _take_timeout(self, value: bytes) -> None:
        try:
            self.timeout_s = parse_timeout(value)
        except ValueError as error:
            self.refusal = RpcError(RpcStatus.INTERNAL, str(error))


def _head_of_like(block: HeaderBlock) -> RequestHead | None:
    """The head of a block that differs from this one in metadata only, if one was read."""
    like = block.like
    if like is None or block.fault is not None or not isinstance(like.memo, RequestHead):
        return None
    for name, _ in (*block.fields[block.shared :], *like.fields[block.shared :]):
        if name in _SAYS_MORE or name.startswith(b":"):
            return None
    return like.memo


class ResponseHead:
    """The head or the trailers of a response as a client sees them."""

    def __init__(self, block: HeaderBlock) -> None:
        """Raises Http2StreamError when the block is malformed."""
        self.http_status = response_status(block)
        """`None`: these are trailers."""
        self.is_grpc = False
        self.status: RpcStatus | None = None
        self.message = ""
        self._fields = block.fields
        for name, value in block.fields:
            if name == b"grpc-status":
                self.status = parse_status(value)
            elif name == b"grpc-message":
                self.message = parse_message(value)
            elif name == b"content-type":
                self.is_grpc = value.startswith(CONTENT_TYPE)

    @cached_property
    def metadata(self) -> Metadata:
        return {**text_metadata(self._fields), **binary_metadata(self._fields)}


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
