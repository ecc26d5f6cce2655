import pytest

from pointsman_router.core.request_headers import OBJECTIVE, RequestHeaders, milliseconds


def headers(*items: tuple[str, str]) -> RequestHeaders:
    return RequestHeaders((key, value.encode()) for key, value in items)


def test_the_current_name_wins_over_the_older_even_if_it_is_empty() -> None:
    old, new = ("x-gateway-inference-objective", "old"), ("x-llm-d-inference-objective", "new")
    assert headers(old, new).get(*OBJECTIVE) == "new"
    assert headers(old).get(*OBJECTIVE) == "old"
    assert headers(old, (new[0], "")).get(*OBJECTIVE) == ""
    assert headers().get(*OBJECTIVE) is None


def test_the_first_of_two_equal_headers_counts_whatever_its_case() -> None:
    assert headers(("X-A", "1"), ("x-a", "2")).get("x-a") == "1"


def test_bytes_that_are_not_utf8_do_no_harm() -> None:
    assert RequestHeaders([("x-a", b"\xff")]).get("x-a") == "\ufffd"


@pytest.mark.parametrize(
    ("items", "path"),
    [
        ([(":path", "/v1/chat/completions?x=/foo")], "/v1/chat/completions"),
        ([("x-original-path", "/a"), ("x-forwarded-path", "/b")], "/a"),
        ([("x-forwarded-path", "/b?c")], "/b"),
        ([(":path", "/p"), ("x-original-path", "/a")], "/p"),
        ([], "/v1/completions"),
    ],
)
def test_the_path_is_without_its_query(items: list[tuple[str, str]], path: str) -> None:
    assert headers(*items).path() == path


@pytest.mark.parametrize(
    ("values", "preferred"),
    [
        (["if-available"], True),
        (["IF-Available"], True),
        (["respond-async, If-Available;x=1 , wait=5"], True),
        (["respond-async", "if-available"], True),
        (["if-availables"], False),
        (['foo="if-available"'], False),
        ([], False),
    ],
)
def test_prefer_is_a_list_of_tokens(values: list[str], preferred: bool) -> None:
    assert headers(*(("prefer", v) for v in values)).prefers("if-available") is preferred


@pytest.mark.parametrize(
    ("text", "value"),
    [("250", 250), ("250.7", 250), ("0", None), ("-1", None), ("x", None), ("nan", None),
     ("inf", 1000), ("5000", 1000), (None, None), ("", None)],
)  # fmt: skip
def test_milliseconds_are_positive_and_bounded(text: str | None, value: int | None) -> None:
    assert milliseconds(text, most=1000) == value


def test_only_the_wanted_headers_are_forwarded_and_none_that_is_too_long() -> None:
    given = headers(("x-session-id", "s"), ("x-other", "o"), ("x-long", "l" * 4097))
    assert given.selected(["x-session-id", "x-long", "x-absent"]) == {"x-session-id": "s"}
