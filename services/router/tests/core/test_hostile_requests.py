"""Whatever a client sends: a clear refusal, or a body whose other bytes are the same."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_common.errors import RequestError
from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget
from pointsman_router.rules_testing import RulesUnderTest

TO_T = InferencePool(
    name="default/llama", model_rules=(ModelRule("r", frozenset(), (ModelTarget("target"),)),)
)
RULES = RulesUnderTest(
    """
    rules:
    - {name: house, type: system-prompt, onFailure: skip, parameters: {text: "Be {{ model }}."}}
    - name: check
      type: validate
      onFailure: skip
      parameters: {refusePatterns: [{pattern: forbidden}], schema: {type: object}}
    """,
    pool=TO_T,
)
PLAIN = RulesUnderTest(
    "rules: [{name: a, type: model-alias, parameters: {aliases: {x: y}}}]", pool=TO_T
)
PATHS = st.sampled_from(
    [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/embeddings",
        "/v1/rerank",
        "/inference/v1/generate",
    ]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["{{ model }}", '"model":"x"', "system", "user", "text"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "model", "messages"]), inner
        )
    ),
    max_leaves=8,
)
KEYS = ("model", "messages", "prompt", "input", "system", "instructions", "query", "documents", "z")
bodies = st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=6).map(
    lambda pairs: "{" + ",".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in pairs) + "}"
)
chats = st.fixed_dictionaries(
    {
        "model": st.text(min_size=1, max_size=5),
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.text(max_size=5), "content": st.text()}), min_size=1
        ),
    },
    optional={"z": values},
)


@settings(max_examples=60)
@given(body=bodies.map(str.encode) | st.binary(max_size=60), path=PATHS)
def test_any_body_is_refused_in_one_line_or_changed_in_its_model_only(
    body: bytes, path: str
) -> None:
    try:
        result = PLAIN.send(body, path=path)
    except RequestError as error:
        assert error.message and error.message.isprintable() and len(error.message) < 1000
        return
    pairs = json.loads(body, object_pairs_hook=list)
    after = json.loads(result.body, object_pairs_hook=list)
    assert after == [(k, "target" if k == "model" else v) for k, v in pairs]
    assert result.decision is not None and result.decision.body_bytes == len(result.body)


@settings(max_examples=40)
@given(body=bodies.map(str.encode) | st.binary(max_size=60), path=PATHS)
def test_any_body_goes_through_rules_that_write_or_is_refused(body: bytes, path: str) -> None:
    try:
        result = RULES.send(body, path=path)
    except RequestError:
        return
    assert all(kind == "unsuitable" for _, kind, _ in result.report.failures), result.report
    if result.refusal is None:
        json.loads(result.body)
    else:
        assert result.refusal.message.isprintable() and 400 <= result.refusal.http_status < 500


@settings(max_examples=40)
@given(chat=chats)
def test_a_clients_words_are_never_a_template_and_stay_as_they_are(chat: dict[str, Any]) -> None:
    body = json.dumps(chat).encode()
    result = RULES.send(body)
    if result.refusal is not None:
        assert "forbidden" in body.decode()
        return
    after = json.loads(result.body)
    others = {key: value for key, value in chat.items() if key not in ("model", "messages")}
    assert {key: after[key] for key in others} == others
    tail = after["messages"][-len(chat["messages"]) + 1 :] if len(chat["messages"]) > 1 else []
    assert tail == chat["messages"][1:]


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"z":' + b'{"a":' * 100_000,
        b'{"model":"m","messages":[{"role":"user","content":NaN}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"\\ud800","messages":[{"role":"user","content":"x"}]}',
        '{"model":"m"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"model":"m","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"n":1e999}',
    ],
    ids=["deep", "cut", "nan", "surrogate", "surrogate-model", "utf-16", "bom", "endless"],
)
def test_a_hostile_chat_is_refused_in_one_line(body: bytes) -> None:
    for rules in (PLAIN, RULES):
        with pytest.raises(RequestError) as refused:
            rules.send(body)
        assert refused.value.message.isprintable() and len(refused.value.message) < 1000


def test_huge_texts_and_many_keys_are_read_in_their_length() -> None:
    many = b",".join(b'"k%d":1' % number for number in range(50_000))
    body = b'{"model":"m",%s,"messages":[{"role":"user","content":"%s"}]}' % (
        many,
        b"x" * 2_000_000,
    )
    result = RULES.send(body)
    assert result.refusal is None
    assert result.body == body.replace(b'"m"', b'"target"').replace(
        b'"messages":[', b'"messages":[{"role":"system","content":"Be m."},'
    )
