"""What a server makes of the heads of requests."""

import pytest

from wire import RpcStatus
from wire.grpc.call_ends import encode_trailers, parse_message, parse_status, status_of_reset
from wire.grpc.heads import RequestHead, request_head_of
from wire.http2.errors import ErrorCode
from wire.http2.hpack_cache import HeaderBlock
from wire.testing.scripted_client import REQUEST_FIELDS


def head(*fields: tuple[bytes, bytes], without: bytes = b"") -> RequestHead:
    kept = tuple(item for item in REQUEST_FIELDS if item[0] != without)
    return RequestHead(HeaderBlock(kept + fields))


def test_a_head_says_path_timeout_and_metadata() -> None:
    read = head((b"grpc-timeout", b"2S"), (b"x-who", b"me"), (b"x-raw-bin", b"AAE"))
    assert (read.path, read.timeout_s) == ("/t.S/Echo", 2.0)
    assert read.metadata == {"x-who": "me"}
    assert read.refusal is None and read.http_refusal is None


def test_a_block_that_was_read_before_is_not_parsed_again() -> None:
    block = HeaderBlock(REQUEST_FIELDS)
    assert request_head_of(block) is request_head_of(block)


def test_a_request_that_is_no_call_is_answered_in_http() -> None:
    assert head((b"content-type", b"text/html"), without=b"content-type").http_refusal == b"415"
    got = tuple((name, b"GET" if name == b":method" else value) for name, value in REQUEST_FIELDS)
    assert RequestHead(HeaderBlock(got)).http_refusal == b"405"


def test_a_timeout_that_is_none_refuses_the_call() -> None:
    refusal = head((b"grpc-timeout", b"soon")).refusal
    assert refusal is not None and refusal.status is RpcStatus.INTERNAL


@pytest.mark.parametrize("message", ["", "plain", "100 %", "über\n\r\0", "日本"])
def test_status_messages_are_printable_ascii_on_the_wire(message: str) -> None:
    trailers = encode_trailers(RpcStatus.ABORTED, message)
    if message:
        written = trailers.rpartition(b"grpc-message")[2][1:]
        assert all(0x20 <= octet < 0x7F for octet in written)
        assert parse_message(written) == message


def test_statuses_and_resets_that_nobody_knows() -> None:
    assert parse_status(b"99") is RpcStatus.UNKNOWN
    assert parse_status(b"x") is RpcStatus.UNKNOWN
    assert status_of_reset(None) is RpcStatus.UNAVAILABLE
    assert status_of_reset(ErrorCode.PROTOCOL_ERROR) is RpcStatus.INTERNAL
