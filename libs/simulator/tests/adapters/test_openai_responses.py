"""Frames and bodies, byte for byte where vLLM's were recorded."""

import json

from pointsman_simulator.adapters.openai_responses import (
    CHAT,
    TEXT,
    Answer,
    ResponseEncoder,
    Usage,
)

RECORDED_CHAT = b"""\
data: {"id":"chatcmpl-916bb72fdc0787ba","object":"chat.completion.chunk","created":1795514583,\
"model":"llama","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,\
"finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}

data: {"id":"chatcmpl-916bb72fdc0787ba","object":"chat.completion.chunk","created":1795514583,\
"model":"llama","choices":[{"index":0,"delta":{"content":""},"logprobs":null,\
"finish_reason":null,"token_ids":null}]}

data: {"id":"chatcmpl-916bb72fdc0787ba","object":"chat.completion.chunk","created":1795514583,\
"model":"llama","choices":[{"index":0,"delta":{"content":""},"logprobs":null,\
"finish_reason":"length","stop_reason":null,"token_ids":null}]}

"""


def encoder_of(shape: object) -> ResponseEncoder:
    assert shape in (CHAT, TEXT)
    return ResponseEncoder(
        CHAT if shape is CHAT else TEXT,
        request_id="916bb72fdc0787ba",
        created=1795514583,
        model="llama",
    )


def test_chat_frames_are_those_of_vllm() -> None:
    encoder = encoder_of(CHAT)
    frames = encoder.opening_frame(0) + encoder.token_frames(0, [b"", b""], "length")
    assert frames == RECORDED_CHAT


def test_frames_name_their_choice() -> None:
    frames = encoder_of(TEXT).token_frames(3, [b" a", b" b"], None).split(b"\n\n")[:-1]
    decoded = [json.loads(frame.removeprefix(b"data: ")) for frame in frames]
    assert [frame["choices"][0]["index"] for frame in decoded] == [3, 3]
    assert [frame["choices"][0]["text"] for frame in decoded] == [" a", " b"]
    assert encoder_of(TEXT).opening_frame(3) == b""


def test_the_usage_frame_has_no_choices() -> None:
    frame = encoder_of(CHAT).usage_frame(Usage(17, 16, 4))
    decoded = json.loads(frame.removeprefix(b"data: "))
    assert decoded["choices"] == []
    assert decoded["usage"] == {
        "prompt_tokens": 17,
        "total_tokens": 21,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 16},
    }


def test_whole_answers_have_the_keys_that_clients_read() -> None:
    usage = Usage(3, 0, 4)
    chat = json.loads(encoder_of(CHAT).whole([Answer(" a b", "stop")], usage))
    assert chat["choices"][0]["message"]["content"] == " a b"
    assert chat["choices"][0]["finish_reason"] == "stop"
    text = json.loads(encoder_of(TEXT).whole([Answer("x", "length"), Answer("y", "stop")], usage))
    assert [(choice["index"], choice["text"]) for choice in text["choices"]] == [(0, "x"), (1, "y")]
    assert text["usage"]["total_tokens"] == 7
    assert text["id"] == "cmpl-916bb72fdc0787ba"
