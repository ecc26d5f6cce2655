"""Errors in the words of vLLM 0.32; the expected bodies were recorded from it."""

import json
from typing import Any

import pytest

CHAT = "/v1/chat/completions"

RECORDED = [
    (
        {"model": "nope", "messages": []},
        404,
        r'{"error":{"message":"The model `nope` does not exist. Valid aliases: llama.",'
        r'"type":"NotFoundError","param":"model","code":404}}',
    ),
    (
        '{"model":"llama"',
        400,
        r'{"error":{"message":"1 validation error:\n  {'
        r"'type': 'json_invalid', 'loc': 'body.16', 'msg': 'JSON decode error', "
        r"'input': '<dict of 0 items>', 'ctx': {'error': "
        r"\"Expecting "
        r"',' delimiter\""
        r'}}","type":"Bad Request","param":"body.16","code":400}}',
    ),
    (
        {"model": "llama"},
        400,
        r'{"error":{"message":"1 validation error:\n  {'
        r"'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', "
        r"'input': '<dict of 1 items>'}"
        r'","type":"Bad Request","param":"body.messages","code":400}}',
    ),
    (
        [],
        400,
        r'{"error":{"message":"1 validation error:\n  {'
        r"'type': 'model_attributes_type', 'loc': 'body', "
        r"'msg': 'Input should be a valid dictionary or object to extract fields from', "
        r"'input': '<list of 0 items>'}"
        r'","type":"Bad Request","param":"body","code":400}}',
    ),
    (
        "",
        400,
        r'{"error":{"message":"1 validation error:\n  {'
        r"'type': 'missing', 'loc': 'body', 'msg': 'Field required', 'input': 'None'}"
        r'","type":"Bad Request","param":"body","code":400}}',
    ),
]


@pytest.mark.parametrize(("body", "status", "expected"), RECORDED)
async def test_errors_are_those_of_vllm(
    serve: Any, body: object, status: int, expected: str
) -> None:
    client = await serve()
    raw = body if isinstance(body, str) else json.dumps(body)
    assert await client.post_raw(CHAT, raw.encode()) == (status, json.loads(expected))


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"messages":[{"content":"x"}]}', "body.messages.0.role"),
        (b'{"messages":[{"role":"user","content":7}]}', "body.messages.0.content"),
        (b'{"messages":"x"}', "body.messages"),
        (b'{"messages":[],"max_tokens":"many"}', "body.max_tokens"),
        (b'{"messages":[],"max_tokens":1e999}', "body.max_tokens"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', "body.0"),
        (b'{"messages":' + b"[" * 200_000, "body.0"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_with_the_place(
    client: Any, body: bytes, where: str
) -> None:
    status, answer = await client.post_raw(CHAT, body)
    assert (status, answer["error"]["param"]) == (400, where)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nope", 404), ("DELETE", "/health", 405), ("GET", CHAT, 405)],
)
async def test_errors_of_routing_have_the_same_shape(
    client: Any, method: str, path: str, status: int
) -> None:
    async with client.session.request(method, path) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert (error["code"], error["param"]) == (status, None)
