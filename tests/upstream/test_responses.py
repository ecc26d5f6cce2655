"""Cases 73–85: the answer on its way back."""

import json
from typing import Any

from support.case_configs import QK
from support.case_pools import CasePool, Engine, case, rewrite, rule
from support.case_stack import Stack
from support.ext_proc_client import Gateway, GatewayStream, response_body, response_headers
from support.polling import wait_until
from support.processes import http_text
from support.request_bodies import E1, asks, completion

ONE = (Engine(),)
JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}


async def routed(gateway: Gateway, body: bytes = completion()) -> GatewayStream:
    stream = gateway.open()
    await stream.send(*asks(body))
    assert (await stream.reply()).destination == E1
    return stream


async def answered(stream: GatewayStream, headers: dict[str, str]) -> Any:
    await stream.send(response_headers(headers))
    reply = await stream.receive()
    assert reply.WhichOneof("response") == "response_headers"
    return reply


async def piece(stream: GatewayStream) -> tuple[bytes, bool]:
    message = await stream.receive()
    sent = message.response_body.response.body_mutation.streamed_response
    return sent.body, sent.end_of_stream


def metric(stack: Stack, pool: CasePool, name: str, model: str) -> float:
    """Sum of a metric's samples of one model."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in http_text(f"{stack.edge_admin(pool)}/metrics").splitlines()
        if line.startswith(f"{name}{{") and f'model_name="{model}"' in line
    )


def has_usage(stack: Stack, pool: CasePool, model: str, **counts: int) -> None:
    for kind, count in counts.items():
        name = f"llm_d_epp_request_{kind}_tokens"

        def counted(name: str = name, count: int = count) -> bool:
            return (
                metric(stack, pool, f"{name}_sum", model) == count
                and metric(stack, pool, f"{name}_count", model) == 1
            )

        wait_until(f"{kind} tokens of {model}", counted)


@case(73, config=QK, engines=ONE)
async def test_a_json_answer_is_sent_whole_at_its_end(gateway: Gateway) -> None:
    stream = await routed(gateway)
    await answered(stream, JSON)
    await stream.send(response_body('{"a"', end=False), response_body(":1}", end=True))
    assert await piece(stream) == (b'{"a":1}', True)


@case(74, config=QK, engines=ONE)
async def test_an_empty_last_chunk_ends_a_json_answer(gateway: Gateway) -> None:
    stream = await routed(gateway)
    await answered(stream, JSON)
    await stream.send(response_body("ab", end=False), response_body("", end=True))
    assert await piece(stream) == (b"ab", True)


@case(76, config=QK, engines=ONE)
async def test_each_event_is_passed_at_once_and_usage_counted_once(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    stream = await routed(gateway, completion("model-76", stream=True))
    await answered(stream, SSE)
    usage = (
        'data: {"usage":{"prompt_tokens":7,"completion_tokens":10,"total_tokens":17}}\n\n'
        "data: [DONE]\n\n"
    )
    for chunk, end in [("data: {}\n\n", False), (usage, False), ("", True)]:
        await stream.send(response_body(chunk, end=end))
        assert await piece(stream) == (chunk.encode(), end)
    await stream.done()
    has_usage(stack, pool, "model-76", input=7, output=10)


@case(77, config=QK, engines=ONE)
async def test_a_request_that_asks_for_a_stream_gets_its_chunks_at_once(gateway: Gateway) -> None:
    stream = await routed(gateway, completion(stream=True))
    await answered(stream, {})
    await stream.send(response_body("data: {}\n\n", end=False))
    assert await piece(stream) == (b"data: {}\n\n", False)


@case(79, config=QK, engines=ONE)
async def test_a_large_chunk_goes_in_pieces(gateway: Gateway) -> None:
    stream = await routed(gateway, completion(stream=True))
    await answered(stream, SSE)
    chunk = b"data: " + b"x" * (70_000 - 8) + b"\n\n"
    await stream.send(response_body(chunk, end=False))
    first, second = await piece(stream), await piece(stream)
    assert first[0] + second[0] == chunk
    assert (first[1], second[1]) == (False, False)
    assert max(len(first[0]), len(second[0])) <= 62_000


@case(80, config=QK, engines=ONE, objects=(rewrite("w", rule("m", ("t", None))),))
async def test_the_client_sees_the_model_it_asked_for(gateway: Gateway) -> None:
    for body in ('{"model":"t"}', '{"model": "t"}'):
        stream = await routed(gateway)
        await answered(stream, JSON)
        await stream.send(response_body(body, end=True))
        sent, end = await piece(stream)
        assert (json.loads(sent), end) == ({"model": "m"}, True)


@case(82, config=QK, engines=ONE)
async def test_usage_of_a_json_answer_is_counted_once(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    stream = await routed(gateway, completion("model-82"))
    await answered(stream, JSON)
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 10,
        "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    await stream.send(response_body(json.dumps({"usage": usage}), end=True))
    await piece(stream)
    await stream.done()
    has_usage(stack, pool, "model-82", input=7, output=10, cached=3)


@case(83, config=QK, engines=ONE)
async def test_usage_of_a_responses_stream_is_found(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    stream = await routed(gateway, completion("model-83", stream=True))
    await answered(stream, SSE)
    event = (
        'data: {"type":"response.completed","response":'
        '{"usage":{"input_tokens":5,"output_tokens":6}}}\n\n'
    )
    # Cut in the middle of the event: it is found all the same.
    for chunk, end in [(event[:40], False), (event[40:], False), ("", True)]:
        await stream.send(response_body(chunk, end=end))
        assert await piece(stream) == (chunk.encode(), end)
    await stream.done()
    has_usage(stack, pool, "model-83", input=5, output=6)


@case(85, config=QK, engines=ONE)
async def test_the_endpoint_that_served_is_echoed_for_conformance(gateway: Gateway) -> None:
    stream = await routed(gateway)
    await stream.send(response_headers(JSON, served=E1))
    reply = await stream.receive()
    found = {
        option.header.key: option.header.raw_value.decode()
        for option in reply.response_headers.response.header_mutation.set_headers
    }
    assert found["x-conformance-test-served-endpoint"] == E1
