from collections import Counter
from math import gcd

from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.inference_pool import ModelRule, ModelTarget
from pointsman_router.core.model_rewrite import ModelRewriter, SmoothRoundRobin


def a_rule(
    *targets: tuple[str, int],
    models: tuple[str, ...] = ("m",),
    source: str = "r",
    priority: int | None = None,
) -> ModelRule:
    return ModelRule(
        source=source,
        models=frozenset(models),
        targets=tuple(ModelTarget(name, weight) for name, weight in targets),
        priority=priority,
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
    choice = a_rewriter(a_rule(priority=4)).choose("m", header=None)
    assert (choice.target_model, choice.rule, choice.priority) == ("m", None, 4)


def test_a_rewrite_that_comes_first_does_not_hide_the_priority_of_an_inference_model() -> None:
    rewriter = a_rewriter(
        a_rule(("t", 0)),
        a_rule(("any", 0), models=(), priority=1),
        a_rule(("late", 0), source="InferenceModel/m", priority=5),
        a_rule(source="InferenceModel/later", priority=9),
    )
    choice = rewriter.choose("m", header=None)
    assert (choice.target_model, choice.priority) == ("t", 5)
    assert rewriter.choose("other", header=None).priority == 1


CANARY = a_rule(("stable", 90), ("canary", 10))


def test_a_key_keeps_its_target_in_every_replica_and_takes_no_turn() -> None:
    one, two = a_rewriter(CANARY), a_rewriter(CANARY)
    for key in ("ann", "bob", "eve"):
        targets = {
            rewriter.choose("m", header=None, sticky_key=key).target_model
            for rewriter in (one, two)
            for _ in range(5)
        }
        assert len(targets) == 1
    assert Counter(chosen(one, 100)) == {"stable": 90, "canary": 10}


def test_keys_are_spread_by_weight_and_a_change_moves_only_what_it_must() -> None:
    before, after = a_rewriter(CANARY), a_rewriter(a_rule(("stable", 80), ("canary", 20)))
    keys = [f"user-{number}" for number in range(4000)]

    def targets(rewriter: ModelRewriter) -> list[str]:
        return [rewriter.choose("m", header=None, sticky_key=key).target_model for key in keys]

    first, second = targets(before), targets(after)
    assert 320 < first.count("canary") < 480
    assert 700 < second.count("canary") < 900
    assert not any(a == "canary" and b == "stable" for a, b in zip(first, second, strict=True))


def test_a_rule_that_stays_in_a_new_configuration_keeps_its_count() -> None:
    rule = a_rule(("stable", 90), ("canary", 10))
    rewriter = a_rewriter(rule)
    names = chosen(rewriter, 37)
    rewriter.use([a_rule(("x", 0), models=("x",)), a_rule(("stable", 90), ("canary", 10))])
    names += chosen(rewriter, 63)
    assert Counter(names) == {"stable": 90, "canary": 10}
