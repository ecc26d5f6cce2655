import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_router.core.json_places import elements, places_of
from pointsman_router.core.json_splice import (
    Splice,
    applied,
    difference,
    replace_value,
    set_members,
    size_after,
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"m"}', b'{"model":"t"}'),
        (b' { "model" :\t"m" , "x":1}\n', b' { "model" :\t"t" , "x":1}\n'),
        (
            b'{"x":{"model":"in"},"y":[{"model":1}],"model":"m"}',
            b'{"x":{"model":"in"},"y":[{"model":1}],"model":"t"}',
        ),
        (b'{"role":"model","model":"m"}', b'{"role":"model","model":"t"}'),
        (b'{"model":"a","model":"b","z":1.0}', b'{"model":"t","model":"t","z":1.0}'),
        (b'{"mod\\u0065l":"m","b":1}', b'{"mod\\u0065l":"t","b":1}'),
        (b'{"mod\\u0065l":"a","model":"m"}', b'{"mod\\u0065l":"t","model":"t"}'),
        (b'{"t":"\\"model\\":\\"x\\"","model":"m"}', b'{"t":"\\"model\\":\\"x\\"","model":"t"}'),
        (b'{"t":"\\\\","model":"m\\"q\\\\"}', b'{"t":"\\\\","model":"t"}'),
        (b'{"t":"}]\\u00e9","model":"m"}', b'{"t":"}]\\u00e9","model":"t"}'),
        (
            b'{"model":1,"b":2,"model":"     ,\\"b\\":2"}',
            b'{"model":"t","b":2,"model":"t"}',
        ),
        (b'{"model":"m","model":"m"}', b'{"model":"t","model":"t"}'),
        (b'{"a":1.50,"b":null,"model":"m","c":1e5}', b'{"a":1.50,"b":null,"model":"t","c":1e5}'),
    ],
)
def test_only_the_value_of_the_top_level_key_changes(before: bytes, after: bytes) -> None:
    assert applied(before, replace_value(before, "model", "t")) == after


def test_the_new_value_is_written_as_json() -> None:
    [splice] = replace_value(b'{"model":"m"}', "model", 'a"b\\ü')
    assert splice.inserted == '"a\\"b\\\\ü"'.encode()


@pytest.mark.parametrize("depth", [1, 6, 7, 8, 9, 300])
def test_containers_of_any_depth_are_passed_over(depth: int) -> None:
    deep = b'[{"model":"]"},' * depth + b"1" + b"]" * depth
    body = b'{"x":' + deep + b',"model":"m","y":{"model":2}}'
    [splice] = replace_value(body, "model", "t")
    assert splice == Splice(body.index(b'"m"'), 3, b'"t"')


def test_a_body_of_many_small_containers_is_read_in_one_go() -> None:
    body = b'{"model":1,"x":[' + b"[{}]," * 20_000 + b'0],"model":"m"}'
    assert [body[start:end] for start, end in places_of(body, "model")] == [b"1", b'"m"']


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["model", '"model":"x"', "\\", '\\"', "]}", "[{"]),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["model", "mode"]), inner)
    ),
    max_leaves=20,
)


def ordered_pairs(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return pairs


@settings(max_examples=40)
@given(
    pairs=st.lists(st.tuples(st.sampled_from(["a", "model", "mode", "\\", 'b"']), json_values)),
    where=st.integers(0, 100),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
    escape=st.booleans(),
)
def test_every_top_level_value_is_replaced_and_nothing_else(
    pairs: list[tuple[str, Any]], where: int, indent: int | None, ascii_only: bool, escape: bool
) -> None:
    pairs.insert(where % (len(pairs) + 1), ("model", "asked"))
    members = ", \n".join(
        f"{json.dumps(key)} : {json.dumps(value, indent=indent, ensure_ascii=ascii_only)}"
        for key, value in pairs
    )
    text = f" {{\t{members} }} "
    if escape:
        text = text.replace('"model"', '"m\\u006fdel"', 1)
    body = text.encode()

    splices = replace_value(body, "model", "target")
    changed = applied(body, splices)

    expected = [(key, "target" if key == "model" else value) for key, value in pairs]
    read = json.loads(changed, object_pairs_hook=ordered_pairs)
    assert read == json.loads(
        "{" + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in expected) + "}",
        object_pairs_hook=ordered_pairs,
    )
    assert len(changed) == size_after(body, splices)
    assert msgspec.json.decode(changed)["model"] == "target"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"{ }", b'{"x":[1],"y":2 }'),
        (b'{"a":1.0}', b'{"x":[1],"y":2,"a":1.0}'),
        (b' { "y" : 7 , "a":1e3}', b' {"x":[1], "y" : 2 , "a":1e3}'),
        (b'{"y":0,"x":{},"y":1}', b'{"y":2,"x":[1],"y":2}'),
    ],
)
def test_members_are_set_where_they_stand_or_added_in_front(before: bytes, after: bytes) -> None:
    assert applied(before, set_members(before, {"x": b"[1]", "y": b"2"})) == after


@settings(max_examples=30)
@given(
    items=st.lists(json_values),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
)
def test_the_elements_of_an_array_are_found(
    items: list[Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(items, indent=indent, ensure_ascii=ascii_only)
    body = f" {text}\n".encode()
    assert [json.loads(body[start:end]) for _, start, end in elements(body)] == items


@given(
    before=st.binary(max_size=20) | st.text("ab", max_size=12).map(str.encode),
    after=st.binary(max_size=20) | st.text("ab", max_size=12).map(str.encode),
)
def test_a_difference_is_one_splice_that_makes_it(before: bytes, after: bytes) -> None:
    splices = difference(before, after)
    assert applied(before, splices) == after
    assert len(splices) == (before != after)
    for splice in splices:
        assert splice.inserted[:1] != before[splice.offset : splice.offset + splice.removed][:1]
