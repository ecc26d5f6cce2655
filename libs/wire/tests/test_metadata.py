"""Metadata and trailers, text and binary, between all pairs of engines."""

import asyncio
from collections.abc import Awaitable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import BidiStream, CallbackStream, CallContext, Channel, RpcError, RpcStatus, Server
from wire.grpc.metadata import binary_metadata, encode_metadata, text_metadata
from wire.http2.hpack_cache import HeaderBlockReader
from wire.transport import Transport

ENGINES: list[Transport] = ["wire", "grpcio"]
SENT: dict[str, str | bytes] = {
    "X-Pool": "default/llama",
    "x-key-bin": b"\0\xff,= ",
    "x-empty-bin": b"",
    "x-empty": "",
}
TOLD = {"x-pool": "default/llama", "x-empty": ""}
TOLD_BINARY = {"x-key-bin": b"\0\xff,= ", "x-empty-bin": b""}


def seen(text: object, binary: object) -> bytes:
    assert isinstance(text, dict)
    assert isinstance(binary, dict)
    own = {key: text[key] for key in TOLD} == TOLD
    return b"all" if own and binary == TOLD_BINARY else f"{text} {binary}".encode()


def unary(_: bytes, call: CallContext) -> bytes:
    assert call.timeout_s is not None
    assert 0 < call.timeout_s < 30
    return seen(call.metadata, call.binary_metadata)


async def slow(message: bytes, call: CallContext) -> bytes:
    await asyncio.sleep(0)
    return unary(message, call)


async def bidi(stream: BidiStream) -> None:
    await stream.send(seen(stream.metadata, stream.binary_metadata))


class Callbacks(CallbackStream):
    def on_open(self) -> None:
        self.send(seen(self.metadata, self.binary_metadata))


DETAILS = RpcError(RpcStatus.ABORTED, "no", {"x-why": "so", "grpc-status-details-bin": b"\1\2"})


def refuse(_: bytes) -> bytes:
    raise DETAILS


async def refuse_late(stream: BidiStream) -> None:
    await stream.send(b"first")
    raise DETAILS


def broken(_: bytes) -> bytes:
    raise RpcError(RpcStatus.ABORTED, "no", {"x-why": b"bytes for a text key"})


@pytest.mark.parametrize("serving", ENGINES)
@pytest.mark.parametrize("calling", ENGINES)
async def test_metadata_and_trailers_cross(calling: Transport, serving: Transport) -> None:
    server = Server(transport=serving)
    server.unary_with_context("/t.S/Unary", unary)
    server.unary_with_context("/t.S/Slow", slow)
    server.bidi("/t.S/Bidi", bidi)
    server.bidi_callbacks("/t.S/Callbacks", Callbacks)
    server.unary("/t.S/Refuse", refuse)
    server.bidi("/t.S/RefuseLate", refuse_late)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=calling) as channel:
        for path in ("/t.S/Unary", "/t.S/Slow"):
            assert await channel.unary(path, b"", timeout_s=20, metadata=SENT) == b"all"
        for path in ("/t.S/Bidi", "/t.S/Callbacks"):
            call = channel.bidi(path, timeout_s=20, metadata=SENT)
            assert await call.receive() == b"all"
            await call.done_writing()
            assert await call.receive() is None
        late = channel.bidi("/t.S/RefuseLate", timeout_s=20)
        assert await late.receive() == b"first"
        refused: list[Awaitable[object]] = [
            channel.unary("/t.S/Refuse", b"", timeout_s=20),
            late.receive(),
        ]
        for call_ended in refused:
            with pytest.raises(RpcError) as caught:
                await call_ended
            assert caught.value.status is RpcStatus.ABORTED
            assert caught.value.trailers["x-why"] == "so"
            assert caught.value.trailers["grpc-status-details-bin"] == b"\1\2"
    await server.drain(0)


async def test_trailers_that_cannot_be_sent_are_a_failure_of_the_handler() -> None:
    errors: list[Exception] = []
    server = Server(transport="wire", on_error=lambda _, error: errors.append(error))
    server.unary("/t.S/Broken", broken)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport="wire") as channel:
        with pytest.raises(RpcError) as caught:
            await channel.unary("/t.S/Broken", b"", timeout_s=20)
    assert caught.value.status is RpcStatus.UNKNOWN
    assert [type(error) for error in errors] == [ValueError]
    await server.drain(0)


keys = st.text("abcxyz-_.09", min_size=1, max_size=12)
printable = st.text([chr(code) for code in range(0x21, 0x7F)], max_size=200)


@given(
    st.dictionaries(keys.filter(lambda key: not key.endswith("-bin")), printable, max_size=5),
    st.dictionaries(keys.map(lambda key: key + "-bin"), st.binary(max_size=200), max_size=5),
)
def test_what_is_encoded_is_read_again(text: dict[str, str], binary: dict[str, bytes]) -> None:
    reader = HeaderBlockReader(max_list_bytes=1 << 20)
    fields = reader.read(encode_metadata({**text, **binary})).fields
    reserved = {"te"}
    assert text_metadata(fields) == {key: text[key] for key in text if key not in reserved}
    assert binary_metadata(fields) == binary


def test_base64_is_read_with_and_without_padding_and_of_several_values_the_last() -> None:
    fields = [(b"a-bin", b"AQI="), (b"b-bin", b"AQI"), (b"c-bin", b"AQI, AwQ="), (b"d-bin", b"!")]
    assert binary_metadata(fields) == {"a-bin": b"\1\2", "b-bin": b"\1\2", "c-bin": b"\3\4"}


@pytest.mark.parametrize(
    "wrong", [{"a": b"x"}, {"a-bin": "x"}, {"a": "ä"}, {"a": "line\n"}, {"ä": "x"}]
)
def test_metadata_that_cannot_be_sent_is_refused(wrong: dict[str, str | bytes]) -> None:
    with pytest.raises(ValueError, match=r"metadata|ascii"):
        encode_metadata(wrong)
