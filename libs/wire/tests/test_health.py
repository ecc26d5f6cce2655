"""`grpc.health.v1` on both engines, asked by grpcio with the messages of grpcio-health-checking."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from wire import Channel, HealthService, RpcError, RpcStatus, Server, ServingStatus, Transport
from wire.health import CHECK, WATCH, decode_request, decode_response, encode_request

PATIENCE_S = 20.0
Status = health_pb2.HealthCheckResponse


@pytest.fixture
def health() -> HealthService:
    return HealthService(max_watchers=2)


@pytest.fixture
async def address(transport: Transport, health: HealthService) -> AsyncIterator[str]:
    server = Server(transport=transport)
    health.add_to(server)
    [bound] = await server.listen("127.0.0.1:0")
    yield bound
    await server.drain(0)


@pytest.fixture
async def stub(address: str) -> AsyncIterator[health_pb2_grpc.HealthStub]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def request(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


async def test_check_tells_what_was_set_for_each_service(
    stub: health_pb2_grpc.HealthStub, health: HealthService
) -> None:
    health.set("", serving=True)
    health.set("a.B", serving=False)
    assert (await stub.Check(request(""))).status == Status.SERVING
    assert (await stub.Check(request("a.B"))).status == Status.NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(request("a.C"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watch_tells_the_status_now_and_each_change(
    stub: health_pb2_grpc.HealthStub, health: HealthService
) -> None:
    call = stub.Watch(request("a.B"))
    async with asyncio.timeout(PATIENCE_S):
        assert (await call.read()).status == Status.SERVICE_UNKNOWN
        health.set("a.B", serving=True)
        assert (await call.read()).status == Status.SERVING
        health.set("other", serving=True)
        health.set("a.B", serving=False)
        assert (await call.read()).status == Status.NOT_SERVING
        health.set("a.B", serving=True)
        assert (await call.read()).status == Status.SERVING
        last = asyncio.ensure_future(call.read())  # begun too late, it may find the call ended
        await asyncio.sleep(0)
        health.shut_down()
        assert (await last).status == Status.NOT_SERVING
        assert await call.read() is grpc.aio.EOF
    health.set("a.B", serving=True)
    assert (await stub.Check(request("a.B"))).status == Status.NOT_SERVING


async def test_watchers_over_the_limit_are_refused_until_others_leave(
    address: str, transport: Transport
) -> None:
    async with Channel(address, transport=transport) as channel, asyncio.timeout(PATIENCE_S):
        calls = [channel.bidi(WATCH) for _ in range(3)]
        for call in calls[:2]:
            await call.send(encode_request(""))
            assert decode_response(await call.receive() or b"") is ServingStatus.SERVICE_UNKNOWN
        await calls[2].send(encode_request(""))
        with pytest.raises(RpcError) as caught:
            await calls[2].receive()
        assert caught.value.status is RpcStatus.RESOURCE_EXHAUSTED
        calls[0].cancel()
        while True:
            again = channel.bidi(WATCH)
            await again.send(encode_request(""))
            try:
                assert await again.receive()
                break
            except RpcError:
                await asyncio.sleep(0.01)


async def test_a_function_may_answer(transport: Transport) -> None:
    answers: dict[str, bool | None] = {"liveness": True}
    health = HealthService(answers.get)
    server = Server(transport=transport)
    health.add_to(server)
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address, transport=transport) as channel:
        reply = await channel.unary(CHECK, encode_request("liveness"), timeout_s=PATIENCE_S)
        assert decode_response(reply) is ServingStatus.SERVING
        with pytest.raises(RpcError) as caught:
            await channel.unary(CHECK, encode_request("readiness"), timeout_s=PATIENCE_S)
        assert caught.value.status is RpcStatus.NOT_FOUND
    await server.drain(0)


@given(st.text("aZ.\0é漢", max_size=200))
def test_requests_are_those_of_protobuf(service: str) -> None:
    expected = request(service).SerializeToString()
    assert encode_request(service) == expected
    assert decode_request(expected) == service


@pytest.mark.parametrize("status", list(ServingStatus))
def test_statuses_are_those_of_protobuf(status: ServingStatus) -> None:
    assert decode_response(Status(status=int(status)).SerializeToString()) is status


def test_fields_that_are_not_known_are_passed_over() -> None:
    unknown = b"\x10\x80\x01" + b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x2a\x02zz"
    assert decode_request(unknown + encode_request("a.B") + unknown) == "a.B"


@pytest.mark.parametrize(
    "wrong",
    [b"\x0a", b"\x0a\x05ab", b"\x0a\x01\xff", b"\x0b", b"\x08" + b"\x80" * 11, b"\x19\0", b"\x08"],
)
def test_what_is_no_request_is_an_invalid_argument(wrong: bytes) -> None:
    with pytest.raises(RpcError) as caught:
        decode_request(wrong)
    assert caught.value.status is RpcStatus.INVALID_ARGUMENT
    with pytest.raises(RpcError):
        decode_request(encode_request("x" * 1025))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_an_invalid_argument(message: bytes) -> None:
    try:
        decode_request(message)
    except RpcError as error:
        assert error.status is RpcStatus.INVALID_ARGUMENT


def test_what_is_no_response_is_refused() -> None:
    with pytest.raises(ValueError, match="HealthCheckResponse"):
        decode_response(b"abc")
