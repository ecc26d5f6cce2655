"""Blocks that begin like others of their length are read as if they did not."""

from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from wire.grpc.heads import RequestHead, encode_request_head, request_head_of
from wire.http2.errors import Http2StreamError
from wire.http2.header_encoding import encode_fields
from wire.http2.hpack_cache import Field, HeaderBlock, HeaderBlockReader

HEAD = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)
LAST_FIELDS: list[Field] = [
    (b"traceparent", b"00-aaaa-01"),
    (b"traceparent", b"00-bbbb-01"),
    (b"traceparent", b"00-bbbb-\x00"),
    (b"grpc-timeout", b"100m"),
    (b"grpc-timeout", b"200m"),
    (b"grpc-timeout", b"2000"),
    (b"content-type", b"text/plain"),
    (b"content-length", b"5"),
    (b"content-length", b"6"),
    (b":path", b"/z"),
    (b"x-key-bin", b"AQ"),
    (b"x-Key-bin", b"AQ"),
]


def said(head: RequestHead | str) -> object:
    if isinstance(head, str):
        return head
    refusal = head.refusal and head.refusal.message
    parts = (head.path, head.http_refusal, refusal, head.timeout_s)
    return (*parts, head.metadata, head.binary_metadata)


def head_or_fault(block: HeaderBlock) -> RequestHead | str:
    try:
        return request_head_of(block)
    except Http2StreamError as error:
        return str(error)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.lists(st.sampled_from(LAST_FIELDS), max_size=4),
            st.sampled_from(["plain", "plain", "plain", "indexed"]),
        ),
        max_size=20,
    )
)
def test_a_series_of_blocks_is_read_as_each_of_them_alone(
    series: list[tuple[int, list[Field], str]],
) -> None:
    reader, encoder = HeaderBlockReader(max_list_bytes=10_000), Encoder()
    for count, last_fields, how in series:
        fields = (*HEAD[:count], *last_fields)
        block = encode_fields(fields) if how == "plain" else encoder.encode(fields)
        read = reader.read(block)
        assert read.fields == fields
        alone = HeaderBlockReader(max_list_bytes=10_000).read(encode_fields(fields))
        assert read.fault == alone.fault
        assert read.content_length == alone.content_length
        assert said(head_or_fault(read)) == said(head_or_fault(alone))


def test_the_head_of_calls_that_differ_in_their_trace_is_worked_out_once() -> None:
    reader = HeaderBlockReader(max_list_bytes=10_000)
    head = encode_request_head(path="/a.B/C", authority="a", scheme="http")
    blocks = [
        reader.read(head + encode_fields([(b"traceparent", b"00-%04d-01" % number)]))
        for number in range(3)
    ]
    assert [block.like for block in blocks] == [None, blocks[0], blocks[0]]
    metadata = [request_head_of(block).metadata["traceparent"] for block in blocks]
    assert metadata == ["00-0000-01", "00-0001-01", "00-0002-01"]


def test_patterns_are_bounded() -> None:
    reader = HeaderBlockReader(max_list_bytes=10_000)
    for size in range(500):
        reader.read(encode_fields([*HEAD, (b"x", b"v" * size)]))
    assert len(reader._patterns) <= 64
