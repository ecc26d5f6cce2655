from collections import Counter
from math import gcd

from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.inference_pool import ModelRule, ModelTarget
from pointsman_router.core.model_rewrite import ModelRewriter, SmoothRoundRobin


def a_rule(
    *targets: tuple[str, int], models: tuple[str, ...] = ("m",), source: str = "r"
) -> ModelRule:
    return ModelRule(
        source=source,
        models=frozenset(models),
        targets=tuple(ModelTarget(name, weight) for name, weight in targets),
    )


def a_rewriter(*rules: ModelRule) -> ModelRewriter:
    rewriter = ModelRewriter()
    rewriter.use(rules)
    return rewriter


def chosen(rewriter: ModelRewriter, count: int, model: str = "m") -> list[str]:
    return [rewriter.choose(model, header=None).target_model for _ in range(count)]


def test_ninety_to_ten_is_exact_over_any_hundred_requests() -> None:
    names = chosen(a_rewriter(a_rule(("stable", 90), ("canary", 10))), 1000)
    for start in range(900):
        assert Counter(names[start : start + 100]) == {"stable": 90, "canary": 10}


@given(weights=st.lists(st.integers(1, 50), min_size=1, max_size=6), start=st.integers(0, 200))
def test_any_whole_period_holds_each_target_in_its_share(weights: list[int], start: int) -> None:
    turns = SmoothRoundRobin([ModelTarget(str(i), w) for i, w in enumerate(weights)])
    divisor = gcd(*weights)
    names = [turns.take() for _ in range(start + sum(weights) // divisor)]
    assert Counter(names[start:]) == {str(i): w // divisor for i, w in enumerate(weights)}


def test_targets_without_weights_take_turns() -> None:
    assert Counter(chosen(a_rewriter(a_rule(("a", 0), ("b", 0))), 100)) == {"a": 50, "b": 50}


def test_a_target_without_weight_beside_weighted_ones_is_never_taken() -> None:
    assert set(chosen(a_rewriter(a_rule(("a", 0), ("b", 2), ("c", 1))), 30)) == {"b", "c"}


def test_an_exact_rule_goes_before_a_generic_one_and_the_first_before_the_second() -> None:
    rewriter = a_rewriter(
        a_rule(("any", 0), models=()),
        a_rule(("first", 0)),
        a_rule(("second", 0)),
        a_rule(("late", 0), models=()),
    )
    assert chosen(rewriter, 3) == ["first"] * 3
    assert chosen(rewriter, 3, "other") == ["any"] * 3


def test_a_matching_rule_overrides_the_header_which_overrides_the_body() -> None:
    rewriter = a_rewriter(a_rule(("t", 0)))
    assert rewriter.choose("m", header="h").target_model == "t"
    assert rewriter.choose("other", header="h").target_model == "h"
    assert rewriter.choose("other", header=None).target_model == "other"
    assert rewriter.choose("other", header="").target_model == "other"


def test_rules_match_the_model_asked_for_and_not_the_header() -> None:
    rewriter = a_rewriter(a_rule(("t", 0), models=("h",)))
    assert rewriter.choose("m", header="h").target_model == "h"


def test_a_rule_without_targets_leaves_the_model() -> None:
    choice = a_rewriter(a_rule(source="InferenceModel/m")).choose("m", header=None)
    assert (choice.target_model, choice.by_rule) == ("m", False)
    assert choice.rule is not None and choice.rule.source == "InferenceModel/m"


def test_a_rule_that_stays_in_a_new_configuration_keeps_its_count() -> None:
    rule = a_rule(("stable", 90), ("canary", 10))
    rewriter = a_rewriter(rule)
    names = chosen(rewriter, 37)
    rewriter.use([a_rule(("x", 0), models=("x",)), a_rule(("stable", 90), ("canary", 10))])
    names += chosen(rewriter, 63)
    assert Counter(names) == {"stable": 90, "canary": 10}
