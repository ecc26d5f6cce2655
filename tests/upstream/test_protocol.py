"""Cases 1–29: the messages of a request."""

import asyncio
import json
import uuid

import pytest
from support.case_configs import DEF, QK, QK_TWO
from support.case_pools import CasePool, Engine, case, objective
from support.case_stack import Stack
from support.ext_proc_client import (
    DESTINATION,
    Gateway,
    request_body,
    request_headers,
    request_trailers,
)
from support.polling import wait_until
from support.processes import http_text
from support.request_bodies import E1, E2, E3, asks, completion

THREE = (Engine(3, 0.2), Engine(0, 0.1), Engine(10, 0.2))
ONE = (Engine(),)
TWO_OBJECTIVES = (objective("obj-hi", 10), objective("obj-shed", -1))


def sized(size: int) -> bytes:
    """Valid JSON of exactly `size` bytes."""
    return completion(prompt="x" * (size - len(completion(prompt=""))))


@case(1, config=QK, engines=THREE)
async def test_the_best_of_three_is_picked_and_the_body_kept(gateway: Gateway) -> None:
    reply = await gateway.ask(*asks())
    assert reply.destination == E2
    assert reply.set_headers[0] == (DESTINATION, E2)
    assert reply.header_reply.clear_route_cache
    assert reply.metadata[DESTINATION] == E2
    assert reply.header("content-length") == str(len(completion()))
    assert reply.body == completion()


@case(2, config=QK, engines=(Engine(4, 0.2), Engine(4, 0.85)))
async def test_a_body_in_two_chunks_is_answered_whole_after_the_second(gateway: Gateway) -> None:
    stream = gateway.open()
    half = len(completion()) // 2
    await stream.send(request_headers(), request_body(completion()[:half], end=False))
    await stream.send(request_body(completion()[half:], end=True))
    reply = await stream.reply()
    assert reply.destination == E1
    assert [piece.body for piece in reply.body_pieces] == [completion()]


@case(4, config=QK, engines=ONE)
async def test_an_empty_last_chunk_ends_the_body(gateway: Gateway) -> None:
    reply = await gateway.ask(
        request_headers(), request_body(completion(), end=False), request_body(b"", end=True)
    )
    assert (reply.destination, reply.body) == (E1, completion())


@case(5, config=QK, engines=ONE)
async def test_a_body_of_62000_bytes_goes_in_one_piece(gateway: Gateway) -> None:
    reply = await gateway.ask(*asks(sized(62_000)))
    assert [len(piece.body) for piece in reply.body_pieces] == [62_000]
    assert reply.body_pieces[0].end_of_stream


@case(7, config=QK, engines=ONE)
async def test_a_large_body_goes_in_pieces_that_add_up(gateway: Gateway) -> None:
    body = sized(125_000)
    chunks = [body[at : at + 12_500] for at in range(0, len(body), 12_500)]
    messages = [request_body(chunk, end=chunk is chunks[-1]) for chunk in chunks]
    reply = await gateway.ask(request_headers(), *messages)
    assert [len(piece.body) for piece in reply.body_pieces] == [62_000, 62_000, 1_000]
    assert reply.body == body
    assert reply.header("content-length") == "125000"


@case(8, config=QK, engines=ONE)
async def test_an_unchanged_body_is_byte_exact(gateway: Gateway) -> None:
    body = b'{ "z":1.0,\n "prompt" : "caf\\u00e9",  "model":"m", "n": 1, "n":1e0 }'
    reply = await gateway.ask(*asks(body))
    assert reply.body == body


@case(10, config=QK, differs="bodiless requests to an empty pool get 503, not 500")
async def test_a_get_with_an_empty_pool_is_503(gateway: Gateway) -> None:
    reply = await gateway.get()
    assert reply.status == 503
    assert reply.text.startswith("inference error: ServiceUnavailable - ")


@case(
    11,
    config=QK,
    engines=(Engine(0, 0.1), Engine(20, 0.5), Engine(20, 0.5)),
    differs="bodiless requests are scheduled like any other, not sent to a random pod",
)
async def test_gets_go_where_the_load_is_least(gateway: Gateway) -> None:
    found = {(await gateway.get()).destination for _ in range(30)}
    assert found == {E1}


@case(13, config=QK, engines=ONE)
async def test_trailers_after_the_end_of_the_body_need_no_reply(gateway: Gateway) -> None:
    stream = gateway.open()
    await stream.send(*asks(), request_trailers())
    assert (await stream.reply()).destination == E1
    assert await stream.silent_for(0.2)


@case(14, config=QK, engines=ONE, objects=TWO_OBJECTIVES)
async def test_a_header_given_as_value_counts(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    await _has_priority(
        gateway,
        stack,
        pool,
        "model-14",
        10,
        {"x-llm-d-inference-objective": "obj-hi"},
        as_value=True,
    )


@case(16, config=QK, engines=ONE, objects=TWO_OBJECTIVES)
async def test_the_older_header_name_counts(gateway: Gateway, stack: Stack, pool: CasePool) -> None:
    await _has_priority(
        gateway, stack, pool, "model-16", 10, {"x-gateway-inference-objective": "obj-hi"}
    )


@case(17, config=QK, engines=ONE, objects=TWO_OBJECTIVES)
async def test_the_current_header_name_beats_the_older(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    both = {
        "x-gateway-inference-objective": "obj-shed",
        "x-llm-d-inference-objective": "obj-hi",
    }
    await _has_priority(gateway, stack, pool, "model-17", 10, both)


async def _has_priority(
    gateway: Gateway,
    stack: Stack,
    pool: CasePool,
    model: str,
    priority: int,
    headers: dict[str, str],
    *,
    as_value: bool = False,
) -> None:
    body = completion(model)
    reply = await gateway.ask(
        request_headers(headers, as_value=as_value), request_body(body, end=True)
    )
    assert reply.destination == E1
    counted = f'priority="{priority}"'

    def shown() -> bool:
        lines = http_text(f"{stack.edge_admin(pool)}/metrics").splitlines()
        return any(
            line.startswith("llm_d_epp_request_total{") and model in line and counted in line
            for line in lines
        )

    wait_until(f"a request of {model} with {counted}", shown)


@case(
    19,
    config=QK,
    engines=ONE,
    differs="headers that nobody changed are left alone, not set again",
)
async def test_other_headers_stay_as_they_are(gateway: Gateway) -> None:
    reply = await gateway.ask(*asks(authorization="x"))
    assert reply.header("authorization") is None
    assert "authorization" not in reply.removed


@case(20, config=QK, engines=ONE)
async def test_a_missing_request_id_is_made_up(gateway: Gateway) -> None:
    reply = await gateway.ask(
        request_headers(request_id=None), request_body(completion(), end=True)
    )
    assert uuid.UUID(reply.header("x-request-id"))


@case(22, config=QK, engines=THREE)
async def test_header_and_metadata_hold_the_same_value(gateway: Gateway) -> None:
    for _ in range(5):
        reply = await gateway.ask(*asks())
        assert reply.destination == reply.metadata[DESTINATION]


@case(23, config=QK_TWO, engines=THREE)
async def test_two_endpoints_stand_in_order_of_preference(gateway: Gateway) -> None:
    reply = await gateway.ask(*asks())
    assert reply.destination == f"{E2},{E1}"
    assert reply.metadata[DESTINATION] == f"{E2},{E1}"


@case(25, config=QK, engines=(Engine(by_port={8000: 5, 8001: 0}),), ports=(8000, 8001))
async def test_each_target_port_is_an_endpoint_of_its_own(gateway: Gateway) -> None:
    assert (await gateway.ask(*asks())).destination == "10.0.0.1:8001"


@case(26, config=QK, engines=ONE)
async def test_a_client_that_goes_before_its_body_ends_leaves_nothing(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    stream = gateway.open()
    await stream.send(request_headers(), request_body(b'{"model":', end=False))
    stream.cancel()
    assert (await gateway.ask(*asks())).destination == E1
    wait_until("no open lease", lambda: in_flight(stack, pool) == 0)


def in_flight(stack: Stack, pool: CasePool) -> int:
    """Open leases of a pool, as the datalayer sees them."""
    state = json.loads(http_text(f"{stack.datalayer_admin}/v1/pools/{pool.full_name}"))
    return sum(endpoint["in_flight"] for endpoint in state["endpoints"])


@case(28, config=QK, engines=(Engine(), Engine(), Engine()))
async def test_interleaved_streams_each_get_their_own_answer(gateway: Gateway) -> None:
    async def one(index: int) -> None:
        body = completion(prompt=f"prompt {index}")
        stream = gateway.open()
        await stream.send(request_headers(request_id=f"r-{index}"))
        await stream.send(request_body(body[:10], end=False))
        await asyncio.sleep(0)
        await stream.send(request_body(body[10:], end=True))
        reply = await stream.reply(timeout_s=30)
        assert reply.body == body
        assert reply.destination in (E1, E2, E3)
        await stream.done()

    await asyncio.gather(*(one(index) for index in range(200)))


@case(29, config=DEF, engines=THREE)
async def test_scores_of_all_candidates_are_shown_when_asked(gateway: Gateway) -> None:
    reply = await gateway.ask(*asks())
    assert reply.metadata["x-gateway-destination-endpoint-scores"] == pytest.approx(
        {E1: 3.0, E2: 3.8, E3: 1.6}, abs=1e-6
    )
