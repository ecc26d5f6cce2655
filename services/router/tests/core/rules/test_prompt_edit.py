import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_router.core.json_splice import applied
from pointsman_router.core.rules.callout import RuleFailedError
from pointsman_router.core.rules.prompt_edit import Mode, with_system_text, with_user_text


def after_system(api: str, body: bytes, mode: Mode, text: str = "S") -> bytes:
    return applied(body, with_system_text(api, body, text, mode))


def after_user(api: str, body: bytes, text: str = "C") -> bytes:
    return applied(body, with_user_text(api, body, text, "before"))


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        (
            "prepend",
            b'{ "n":1.0, "messages" :[ {"role":"user","content":"hi"} ] }',
            b'{ "n":1.0, "messages" :[{"role":"system","content":"S"},'
            b' {"role":"user","content":"hi"} ] }',
        ),
        (
            "prepend",
            b'{"messages":[{"content":"a\\u00e9\\n","role":"system"}]}',
            b'{"messages":[{"content":"S\\n\\na\\u00e9\\n","role":"system"}]}',
        ),
        (
            "append",
            b'{"messages":[{"role":"system","content":"a"},{"role":"developer","content":"b"},1]}',
            b'{"messages":[{"role":"system","content":"a"},'
            b'{"role":"developer","content":"b\\n\\nS"},1]}',
        ),
        (
            "append",
            b'{"messages":[{"role":"system","content":[{"type":"text","text":"a"} ]}]}',
            b'{"messages":[{"role":"system","content":'
            b'[{"type":"text","text":"a"},{"type":"text","text":"S"} ]}]}',
        ),
        (
            "prepend",
            b'{"messages":[{"role":"system","content":[ {"type":"text","text":"a"}]}]}',
            b'{"messages":[{"role":"system","content":'
            b'[{"type":"text","text":"S"}, {"type":"text","text":"a"}]}]}',
        ),
        (
            "prepend",
            b'{"messages":[{"role":"system","content":null}]}',
            b'{"messages":[{"role":"system","content":"S"}]}',
        ),
        (
            "append",
            b'{"messages":[{"role":"system"}]}',
            b'{"messages":[{"content":"S","role":"system"}]}',
        ),
        (
            "prepend",
            b'{"messages":[{"role":"system","content":""}]}',
            b'{"messages":[{"role":"system","content":"S"}]}',
        ),
        (
            "replace",
            b'{"messages":[{"role":"system","content":"a"} , {"role":"user","content":"u"},'
            b' {"role":"developer","content":"b"}, {"role":"user","content":"v"},'
            b' {"role":"system","content":"z"} ]}',
            b'{"messages":[{"role":"system","content":"S"},{"role":"user","content":"u"},'
            b' {"role":"user","content":"v"} ]}',
        ),
        (
            "replace",
            b'{"messages":[{"role":"system","content":"a"},{"role":"system","content":"b"}]}',
            b'{"messages":[{"role":"system","content":"S"}]}',
        ),
        (
            "prepend",
            b'{"messages":[{"role":"user"}],"messages":[{"role":"system","content":"x"}]}',
            b'{"messages":[{"role":"system","content":"S"},{"role":"user"}],'
            b'"messages":[{"role":"system","content":"S\\n\\nx"}]}',
        ),
    ],
)
def test_the_system_message_of_a_chat(mode: Mode, before: bytes, after: bytes) -> None:
    assert after_system("openai-chat", before, mode) == after


@pytest.mark.parametrize(
    ("api", "mode", "before", "after"),
    [
        ("anthropic-messages", "prepend", b'{"a":1}', b'{"system":"S","a":1}'),
        ("anthropic-messages", "append", b'{"system":"x"}', b'{"system":"x\\n\\nS"}'),
        ("anthropic-messages", "replace", b'{"system":[{"t":1}]}', b'{"system":"S"}'),
        (
            "anthropic-messages",
            "append",
            b'{"system":[{"type":"text","text":"x","cache_control":{}}]}',
            b'{"system":[{"type":"text","text":"x","cache_control":{}},'
            b'{"type":"text","text":"S"}]}',
        ),
        (
            "openai-responses",
            "prepend",
            b'{"input":"hi","instructions":null}',
            b'{"input":"hi","instructions":"S"}',
        ),
        (
            "openai-responses",
            "replace",
            b'{"input":[{"role":"developer","content":"d"},{"role":"user","content":"u"}],'
            b'"instructions":"x"}',
            b'{"input":[{"role":"user","content":"u"}],"instructions":"S"}',
        ),
        ("openai-completions", "append", b'{"prompt":"p"}', b'{"prompt":"S\\n\\np"}'),
        (
            "openai-completions",
            "replace",
            b'{"prompt":["p", "q"]}',
            b'{"prompt":["S\\n\\np", "S\\n\\nq"]}',
        ),
    ],
)
def test_the_system_prompt_of_other_apis(api: str, mode: Mode, before: bytes, after: bytes) -> None:
    assert after_system(api, before, mode) == after


@pytest.mark.parametrize(
    ("api", "before", "after"),
    [
        (
            "openai-chat",
            b'{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"},'
            b'{"role":"assistant","content":"c"}]}',
            b'{"messages":[{"role":"user","content":"a"},{"role":"user","content":"C\\n\\nb"},'
            b'{"role":"assistant","content":"c"}]}',
        ),
        (
            "anthropic-messages",
            b'{"messages":[{"role":"user","content":[{"type":"image"}]}]}',
            b'{"messages":[{"role":"user","content":[{"type":"text","text":"C"},{"type":"image"}]}]}',
        ),
        ("openai-responses", b'{"input":"q"}', b'{"input":"C\\n\\nq"}'),
        (
            "openai-responses",
            b'{"input":[{"role":"user","content":"q"}]}',
            b'{"input":[{"role":"user","content":"C\\n\\nq"}]}',
        ),
        ("openai-completions", b'{"prompt":"q"}', b'{"prompt":"C\\n\\nq"}'),
    ],
)
def test_the_last_user_turn(api: str, before: bytes, after: bytes) -> None:
    assert after_user(api, before) == after


@pytest.mark.parametrize(
    ("api", "body"),
    [
        ("openai-completions", b'{"prompt":[1,2]}'),
        ("openai-completions", b'{"prompt":[[1],[2]]}'),
        ("openai-embeddings", b'{"input":"x"}'),
        ("passthrough", b"\x00"),
    ],
)
def test_what_has_no_place_for_a_text_is_said(api: str, body: bytes) -> None:
    with pytest.raises(RuleFailedError) as failed:
        after_system(api, body, "prepend")
    assert failed.value.kind == RuleFailedError.UNSUITABLE


roles = st.sampled_from(["system", "developer", "user", "assistant", "tool"])
parts = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=5)}), max_size=3
)
messages = st.lists(
    st.fixed_dictionaries({"role": roles}, optional={"content": st.none() | st.text() | parts}),
    min_size=1,
    max_size=6,
)


@given(
    given_messages=messages,
    mode=st.sampled_from(["prepend", "append", "replace"]),
    text=st.text(min_size=1),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
)
def test_every_chat_keeps_all_that_is_not_the_system_prompt(
    given_messages: list[dict[str, Any]],
    mode: Mode,
    text: str,
    indent: int | None,
    ascii_only: bool,
) -> None:
    body = json.dumps(
        {"x": 1.50, "messages": given_messages}, indent=indent, ensure_ascii=ascii_only
    ).encode()
    after = json.loads(after_system("openai-chat", body, mode, text))["messages"]
    systems = ("system", "developer")
    others = [each for each in given_messages if each["role"] not in systems]
    assert [each for each in after if each["role"] not in systems] == others
    assert after[0]["role"] in systems
    leading = []
    for each in after:
        if each["role"] not in systems:
            break
        leading.append(each)
    content = leading[0 if mode != "append" else -1]["content"]
    end = content[0 if mode != "append" else -1]
    said = content if isinstance(content, str) else end["text"]
    assert said.startswith(text) if mode != "append" else said.endswith(text)
    if mode == "replace":
        assert after[1:] == others and content == text
