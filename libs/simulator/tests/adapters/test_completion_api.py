"""Answers, whole and streamed, as a client of vLLM expects them."""

import asyncio
import json
import struct
from typing import Any

import msgspec
import openai
import pytest

from pointsman_simulator.core.engine_profile import DEMO

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
HELLO = [{"role": "user", "content": "hello"}]
NEVER = 1e6  # a time factor with which no step ends within a test


async def stream(client: Any, path: str, body: dict[str, object]) -> list[Any]:
    """Return the decoded frames of a stream, all but the last, which is [DONE]."""
    async with client.session.post(path, json={**body, "stream": True}) as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        frames = (await response.text()).split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


async def test_a_chat_is_answered(client: Any) -> None:
    status, body = await client.post(CHAT, {"model": "llama", "messages": HELLO, "max_tokens": 5})
    assert status == 200
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "llama"
    [choice] = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert len(choice["message"]["content"].split()) == 5
    assert choice["finish_reason"] == "length"
    # "<|user|>\nhello\n<|assistant|>\n" has 29 bytes.
    assert body["usage"] == {
        "prompt_tokens": 8,
        "total_tokens": 13,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


async def test_a_streamed_chat_has_a_role_a_frame_for_each_token_and_the_usage(client: Any) -> None:
    ask = {"model": "llama", "messages": HELLO, "max_tokens": 4}
    frames = await stream(client, CHAT, ask | {"stream_options": {"include_usage": True}})
    assert [frame["object"] for frame in frames] == ["chat.completion.chunk"] * 6
    assert len({(frame["id"], frame["created"], frame["model"]) for frame in frames}) == 1
    role, *tokens, usage = frames
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [frame["choices"][0]["finish_reason"] for frame in tokens] == [None] * 3 + ["length"]
    text = "".join(frame["choices"][0]["delta"]["content"] for frame in tokens)
    _, whole = await client.post(CHAT, ask)
    assert text == whole["choices"][0]["message"]["content"]
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]


async def test_without_include_usage_a_stream_has_none(client: Any) -> None:
    frames = await stream(client, CHAT, {"messages": HELLO, "max_tokens": 2})
    assert all(frame["choices"] and "usage" not in frame for frame in frames)


async def test_a_text_is_completed_whole_and_streamed(client: Any) -> None:
    ask = {"model": "llama-sql", "prompt": "select", "max_tokens": 3}
    status, body = await client.post(TEXT, ask)
    assert status == 200
    assert (body["object"], body["model"]) == ("text_completion", "llama-sql")
    assert body["id"].startswith("cmpl-")
    frames = await stream(client, TEXT, ask)
    assert len(frames) == 3
    assert "".join(frame["choices"][0]["text"] for frame in frames) == body["choices"][0]["text"]
    assert frames[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("streamed", [False, True])
async def test_several_prompts_are_several_choices(client: Any, streamed: bool) -> None:
    ask = {"prompt": ["one", "two", "three"], "max_tokens": 3}
    if streamed:
        frames = await stream(client, TEXT, ask)
        texts = ["", "", ""]
        for frame in frames:
            [choice] = frame["choices"]
            texts[choice["index"]] += choice["text"]
    else:
        _, body = await client.post(TEXT, ask)
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert body["usage"]["completion_tokens"] == 9
        texts = [choice["text"] for choice in body["choices"]]
    assert [len(text.split()) for text in texts] == [3, 3, 3]
    _, alone = await client.post(TEXT, {"prompt": "two", "max_tokens": 3})
    assert texts[1] == alone["choices"][0]["text"]


@pytest.mark.parametrize(
    ("prompt", "choices", "tokens"), [([5, 6, 7], 1, 3), ([[5], [6, 7]], 2, 3)]
)
async def test_token_ids_are_prompts(
    client: Any, prompt: list[Any], choices: int, tokens: int
) -> None:
    _, body = await client.post(TEXT, {"prompt": prompt, "max_tokens": 1})
    assert len(body["choices"]) == choices
    assert body["usage"]["prompt_tokens"] == tokens


async def test_a_shared_prefix_is_found_in_the_cache(client: Any) -> None:
    async def cached(prompt: str, **more: object) -> int:
        ask = {"prompt": prompt, "max_tokens": 1, **more}
        _, body = await client.post(TEXT, ask)
        tokens: int = body["usage"]["prompt_tokens_details"]["cached_tokens"]
        return tokens

    shared = "s" * 640  # ten blocks of 16 tokens of 4 bytes
    assert await cached(shared + "first") == 0
    assert await cached(shared + "second") == 160
    assert await cached(shared) == 144  # the last block is computed for its last token
    assert await cached(shared, model="llama-sql") == 0
    assert await cached(shared, cache_salt="tenant") == 0
    assert await cached("x" + shared) == 0
    assert await client.metric("prefix_cache_hits_total") == 304
    assert await client.metric("prefix_cache_queries_total") == 162 + 162 + 160 + 160 + 160 + 161


@pytest.mark.parametrize(
    ("fields", "length", "reason"),
    [
        ({"max_tokens": 3}, 3, "length"),
        ({"max_tokens": 9, "max_completion_tokens": 4}, 4, "length"),
        ({"min_tokens": 150}, 150, "stop"),
        ({"ignore_eos": True}, 512 - 8, "length"),
        ({"ignore_eos": True, "max_tokens": 300}, 300, "length"),
    ],
)
async def test_the_length_of_an_answer_is_what_the_client_says(
    serve: Any, fields: dict[str, object], length: int, reason: str
) -> None:
    client = await serve(profile=msgspec.structs.replace(DEMO, max_model_len=512))
    _, body = await client.post(CHAT, {"messages": HELLO, **fields})
    assert body["usage"]["completion_tokens"] == length
    assert body["choices"][0]["finish_reason"] == reason


async def test_left_to_itself_the_model_stops_after_16_to_128_tokens(client: Any) -> None:
    _, body = await client.post(CHAT, {"messages": HELLO})
    assert body["choices"][0]["finish_reason"] == "stop"
    assert 16 <= body["usage"]["completion_tokens"] <= 128
    _, again = await client.post(CHAT, {"messages": HELLO})
    assert again["choices"] == body["choices"]


async def test_the_clients_request_id_is_part_of_the_answers_id(client: Any) -> None:
    ask = {"messages": HELLO, "max_tokens": 1}
    async with client.session.post(CHAT, json=ask, headers={"x-request-id": "r-7"}) as response:
        assert (await response.json())["id"] == "chatcmpl-r-7"


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "nope"}, 404, "model"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"min_tokens": -1}, 400, "min_tokens"),
        ({"min_tokens": 9, "max_tokens": 8}, 400, "min_tokens"),
        ({"n": 2}, 400, "n"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"max_tokens": 200_000}, 400, "input_tokens"),
        ({"messages": [{"role": "user", "content": "x" * 600_000}]}, 400, "input_tokens"),
    ],
)
async def test_what_cannot_be_served_is_an_error_that_names_the_parameter(
    client: Any, fields: dict[str, object], status: int, param: str
) -> None:
    seen, body = await client.post(CHAT, {"messages": HELLO, **fields})
    assert (seen, body["error"]["code"], body["error"]["param"]) == (status, status, param)


@pytest.mark.parametrize("prompt", [[], ["a", 1], ["a", [1]], [-1], [2**32], ["a"] * 129])
async def test_a_prompt_is_of_one_kind(client: Any, prompt: list[object]) -> None:
    status, body = await client.post(TEXT, {"prompt": prompt, "max_tokens": 1})
    assert (status, body["error"]["param"]) == (400, "prompt")


async def test_a_streams_headers_do_not_wait_for_the_first_token(serve: Any) -> None:
    client = await serve(time_factor=NEVER)
    ask = {"messages": HELLO, "max_tokens": 2, "stream": True}
    async with client.session.post(CHAT, json=ask) as response:
        assert response.status == 200  # and the first token is many minutes away


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_goes_away_aborts_its_request(serve: Any, streamed: bool) -> None:
    client = await serve(time_factor=NEVER)

    async def ask() -> None:
        body = {"messages": HELLO, "stream": streamed}
        async with client.session.post(CHAT, json=body) as response:
            await response.read()

    asking = asyncio.create_task(ask())
    await client.until_metric("prefix_cache_queries_total", 8.0)
    asking.cancel()
    await client.until_metric("request_success_total", 1.0, 'finished_reason="abort",')


async def test_the_openai_client_is_served(client: Any) -> None:
    async with openai.AsyncOpenAI(base_url=f"http://{client.address}/v1", api_key="none") as sdk:
        chat = await sdk.chat.completions.create(
            model="llama", messages=[{"role": "user", "content": "hello"}], max_tokens=7
        )
        assert chat.usage is not None
        assert chat.usage.completion_tokens == 7
        streamed = await sdk.chat.completions.create(
            model="llama",
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=7,
            stream=True,
        )
        text = "".join([part.choices[0].delta.content or "" async for part in streamed])
        assert text == chat.choices[0].message.content
        done = await sdk.completions.create(model="llama-sql", prompt="select", max_tokens=2)
        assert done.choices[0].finish_reason == "length"
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await sdk.completions.create(model="nope", prompt="x")
        assert [model.id async for model in sdk.models.list()] == ["llama", "llama-sql"]


async def test_a_broken_connection_in_the_middle_of_a_request_harms_nobody(client: Any) -> None:
    host, port = client.address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    linger = struct.pack("ii", 1, 0)  # a reset rather than an orderly end
    writer.get_extra_info("socket").setsockopt(1, 13, linger)
    writer.close()
    status, _ = await client.post(CHAT, {"messages": HELLO, "max_tokens": 1})
    assert status == 200
