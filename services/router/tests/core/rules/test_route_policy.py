import json
from typing import Any

import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.inference_pool import RoutePolicy
from pointsman_router.core.rules.callout_access import CalloutAccess
from pointsman_router.core.rules.policy_book import PolicyBook
from pointsman_router.core.rules.route_policy import parse_policy
from pointsman_router.plugins.rules.catalogue import rule_types

ALIAS = {"name": "a", "type": "model-alias", "parameters": {"aliases": {"x": "y"}}}


def refused(*rules: object, **spec: object) -> str:
    with pytest.raises(SettingsError) as error:
        parse_policy("p", {"rules": list(rules), **spec}, rule_types(CalloutAccess()))
    return str(error.value)


def test_a_policy_is_read_with_its_defaults() -> None:
    [rule] = parse_policy(
        "p", {"poolRef": {"name": "x"}, "rules": [ALIAS]}, rule_types(CalloutAccess())
    )
    assert (rule.name, rule.skips, rule.timeout_s, rule.concurrency) == ("p/a", False, 0.3, 64)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"type": "alias"}, "rules[0].type: no plugin 'alias'; there are: external"),
        ({"name": "A b"}, "rules[0].name: Expected `str` matching regex"),
        ({"timeout": "soon"}, "rules[0].timeout: 'soon' is no duration"),
        ({"timeout": "0"}, "rules[0].timeout: must be over 0"),
        ({"timeout": "31s"}, "rules[0].timeout: must be over 0 and at most 30s"),
        ({"onFailure": "retry"}, "rules[0].onFailure: Invalid enum value 'retry'"),
        ({"match": {"modle": "x"}}, "rules[0].match: Object contains unknown field `modle`"),
        ({"parameters": {}}, "rules[0].parameters: Object missing required field `aliases`"),
        ({"parameters": {"aliases": {"x": 1}}}, "rules[0].parameters: Expected `str`, got `int`"),
        (
            {"type": "system-prompt", "parameters": {"text": "{{ who }}"}},
            "rules[0].parameters.text: no field 'who'; there are: api",
        ),
        (
            {"type": "rag-callout", "parameters": {"url": "ftp://x"}},
            "rules[0].parameters.url: 'ftp://x' is no http:// or https:// URL",
        ),
        (
            {"type": "external", "parameters": {"url": "grpc://host"}},
            "rules[0].parameters.url: 'host' is neither host:port nor unix:///path",
        ),
        (
            {"type": "validate", "parameters": {"refusePatterns": [{"pattern": "(a)\\1"}]}},
            "rules[0].parameters.refusePatterns[0].pattern: invalid escape sequence",
        ),
        (
            {"type": "validate", "parameters": {"schema": {"type": "text"}}},
            "rules[0].parameters.schema: $.type: 'text' is not valid",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_key_and_the_reason(
    change: dict[str, Any], why: str
) -> None:
    assert refused({**ALIAS, **change}).startswith(why)


def test_a_name_that_stands_twice_and_unknown_keys_are_refused() -> None:
    assert refused(ALIAS, ALIAS) == "rules[1].name: 'a' stands twice"
    assert "unknown field `rulez`" in refused(rulez=[])


def test_hosts_and_secrets_are_the_operators() -> None:
    access = CalloutAccess(hosts=["*.internal"], secrets={"key": "Bearer k"})
    types = rule_types(access)

    def parsed(url: str, header: str) -> None:
        parameters = {"url": url, "headers": {"authorization": header}}
        spec = {"rules": [{"name": "r", "type": "rag-callout", "parameters": parameters}]}
        parse_policy("p", spec, types)

    parsed("http://rag.internal/q", "secret:key")
    with pytest.raises(SettingsError, match=r"'evil\.com' may not be asked, by `callout_hosts`"):
        parsed("http://evil.com/.internal", "secret:key")
    with pytest.raises(SettingsError, match="there is no secret 'other'"):
        parsed("http://rag.internal/q", "secret:other")
    assert "Bearer" not in repr(access)


def a_policy(name: str, *rules: object) -> RoutePolicy:
    return RoutePolicy(name, json.dumps({"rules": list(rules)}))


class Book(PolicyBook):
    def __init__(self) -> None:
        self.told: list[str] = []
        super().__init__(
            rule_types(CalloutAccess()),
            lambda pool, policy, error: self.told.append(f"{pool} {policy} {error}"),
        )

    def names(self, pool: str = "a/b") -> list[str]:
        chain = self.chain(pool)
        return [rule.name for rule in chain.rules] if chain else []


def test_the_routers_own_rules_come_first_and_then_the_pools_by_name() -> None:
    book = Book()
    book.use_own("file", {"rules": [ALIAS]})
    book.use("a/b", [a_policy("p", ALIAS, {**ALIAS, "name": "b"}), a_policy("q", ALIAS)])
    assert book.names() == ["file/a", "p/a", "p/b", "q/a"]
    assert book.names("c/d") == ["file/a"]
    book.forget("a/b")
    assert book.names() == ["file/a"]


def test_without_rules_there_is_no_chain() -> None:
    book = Book()
    book.use("a/b", [a_policy("p")])
    assert book.chain("a/b") is None and book.chain("never/known") is None


def test_a_bad_policy_leaves_its_last_good_rules_and_the_others_alone() -> None:
    book = Book()
    book.use("a/b", [a_policy("p", ALIAS), a_policy("q", ALIAS)])
    bad = a_policy("p", {**ALIAS, "type": "x"})
    for _ in range(3):
        book.use("a/b", [bad, a_policy("q", {**ALIAS, "name": "new"})])
    assert book.names() == ["p/a", "q/new"]
    assert len(book.told) == 1 and book.told[0].startswith("a/b p rules[0].type: no plugin 'x'")
    assert [entry["policy"] for entry in book.described()["refused"]] == ["p"]
    book.use("a/b", [RoutePolicy("p", "{")])
    assert book.names() == ["p/a"] and book.told[-1] == "a/b p spec: is no JSON"
    book.use("a/b", [a_policy("p")])
    assert book.names() == [] and not book.refused


def test_a_policy_that_stays_keeps_its_rules_with_what_they_know() -> None:
    book = Book()
    book.use("a/b", [a_policy("p", ALIAS)])
    first = book.chain("a/b")
    book.use("a/b", [a_policy("o", ALIAS), a_policy("p", ALIAS)])
    second = book.chain("a/b")
    assert first and second and first.rules[0] is second.rules[1]
