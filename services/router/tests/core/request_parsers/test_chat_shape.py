"""Chats of the shape that OpenAI's schema gives them, made by hypothesis: what is valid is never
refused, and what is wrong in a field that is read is refused by that field's name."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_common.errors import BadRequestError
from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget
from pointsman_router.core.json_splice import applied
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.request_parsers.registry import ParserRegistry
from pointsman_router.core.request_router import RequestRouter, RoutingDecision

ROUTER = RequestRouter(
    InferencePool(
        name="default/llama", model_rules=(ModelRule("r", frozenset(), (ModelTarget("target"),)),)
    ),
    ParserRegistry.from_config(None),
    max_prefix_blocks=2048,
    forwarded_headers=(),
)
HEADERS = RequestHeaders([(":method", b"POST"), (":path", b"/v1/chat/completions")])

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.text("abcXYZ_-09", min_size=1, max_size=12)
schema = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(names, st.just({"type": "string"}))}
)
function = st.fixed_dictionaries(
    {"name": names}, optional={"parameters": schema, "strict": st.booleans()}
)
tools = st.lists(
    st.fixed_dictionaries({"type": st.just("function"), "function": function}), max_size=2
)
text_part = st.fixed_dictionaries({"type": st.just("text"), "text": text})
media_part = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("image_url"),
            "image_url": st.fixed_dictionaries({"url": text}, optional={"detail": st.just("low")}),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("input_audio"),
            "input_audio": st.fixed_dictionaries({"data": text, "format": st.just("wav")}),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("file"), "file": st.fixed_dictionaries({"file_id": names})}
    ),
)
call = st.fixed_dictionaries(
    {
        "id": names,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": names, "arguments": text}),
    }
)
message = st.one_of(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "developer"]),
            "content": text | st.lists(text_part, min_size=1),
        }
    ),
    st.fixed_dictionaries(
        {
            "role": st.just("user"),
            "content": text | st.lists(text_part | media_part, min_size=1, max_size=3),
        },
        optional={"name": names},
    ),
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": st.none() | text},
        optional={
            "tool_calls": st.lists(call, min_size=1, max_size=2),
            "refusal": st.none() | text,
        },
    ),
    st.fixed_dictionaries({"role": st.just("tool"), "content": text, "tool_call_id": names}),
)
tokens = st.none() | st.integers(1, 2**31)
chats = st.fixed_dictionaries(
    {"model": names, "messages": st.lists(message, min_size=1, max_size=4)},
    optional={
        "tools": tools,
        "tool_choice": st.sampled_from(["auto", "none"]) | call,
        "stream": st.none() | st.booleans(),
        "stream_options": st.just({"include_usage": True}),
        "max_tokens": tokens,
        "max_completion_tokens": tokens,
        "n": st.none() | st.integers(1, 128),
        "temperature": st.floats(0, 2),
        "seed": st.integers(),
        "stop": text | st.lists(text, max_size=4),
        "logit_bias": st.dictionaries(names, st.integers(-100, 100), max_size=2),
        "metadata": st.dictionaries(names | st.just("model"), text, max_size=2),
        "response_format": st.fixed_dictionaries(
            {"type": st.just("json_schema"), "json_schema": schema}
        ),
        "user": text,
        "cache_salt": st.none() | text,
    },
)


def routed(chat: dict[str, Any], **how: Any) -> tuple[bytes, RoutingDecision]:
    body = json.dumps(chat, **how).encode()
    return body, ROUTER.route(HEADERS, body, bodiless=False)


@settings(max_examples=150)
@given(
    chat=chats,
    order=st.randoms(use_true_random=False),
    indent=st.none() | st.just(2),
    ascii_only=st.booleans(),
)
def test_a_valid_chat_is_read_and_only_its_model_changes(
    chat: dict[str, Any], order: Any, indent: int | None, ascii_only: bool
) -> None:
    pairs = list(chat.items())
    order.shuffle(pairs)
    body, decision = routed(dict(pairs), indent=indent, ensure_ascii=ascii_only)
    parsed = decision.parsed
    assert (parsed.model, parsed.stream) == (chat["model"], bool(chat.get("stream")))
    most = chat.get("max_completion_tokens") or chat.get("max_tokens") or 0
    assert (parsed.max_output_tokens, parsed.choices) == (most, chat.get("n") or 0)
    assert decision.target_model == "target" and decision.prompt_tokens > 0
    after = json.loads(applied(body, decision.splices), object_pairs_hook=list)
    before = json.loads(body, object_pairs_hook=list)
    assert after == [(key, "target" if key == "model" else value) for key, value in before]


@settings(max_examples=40)
@given(chat=chats, more=text)
def test_the_next_turn_begins_with_the_bytes_of_the_last(chat: dict[str, Any], more: str) -> None:
    _, decision = routed(chat)
    turns = [*chat["messages"], {"role": "user", "content": more}]
    _, longer = routed({**chat, "messages": turns})
    [prompt], [continued] = decision.parsed.prompts, longer.parsed.prompts
    assert continued.startswith(prompt)
    whole = len(prompt) // 256
    assert longer.block_hashes[:whole] == decision.block_hashes[:whole]


WRONG: dict[str, list[object]] = {
    "model": [7, ["m"], {}, True],
    "messages": ["x", 7, {}, [7], ["x"]],
    "stream": ["yes", 1, []],
    "max_tokens": ["7", [], True, 1.5],
    "max_completion_tokens": ["7", 0.5],
    "n": ["1", {}],
    "cache_salt": [7, []],
}


@settings(max_examples=60)
@given(chat=chats, data=st.data())
def test_a_field_of_a_wrong_type_is_refused_by_its_name(chat: dict[str, Any], data: Any) -> None:
    field = data.draw(st.sampled_from(sorted(WRONG)))
    wrong = data.draw(st.sampled_from(WRONG[field]))
    if field == "max_tokens" and wrong == 1.5:
        chat.pop("max_completion_tokens", None)  # which goes before it, so it would not be read
    with pytest.raises(BadRequestError) as refused:
        routed({**chat, field: wrong})
    assert refused.value.param is not None and refused.value.param.startswith(field)
    assert refused.value.message.isprintable()
