"""How replicas split endpoints and pools among themselves."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.testing.builders import an_endpoint
from pointsman_datalayer.core.pool_share import WHOLE_S, ShareChanges
from pointsman_datalayer.core.shards import SETTLED_S, Shards, highest

OLD = SETTLED_S + 1
UIDS = [f"uid-{number}" for number in range(1000)]


def replicas(*names: str, ages_s: dict[str, float] | None = None) -> dict[str, Shards]:
    """Replicas that have all heard of each other."""
    found = {name: Shards(name) for name in names}
    for shards in found.values():
        shards.heard(ages_s or dict.fromkeys(names, OLD))
    return found


@given(st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=6), st.text(max_size=20))
def test_every_endpoint_is_read_by_exactly_one(names: set[str], uid: str) -> None:
    assert sum(shards.owns(uid) for shards in replicas(*names).values()) == 1
    assert sum(shards.speaks(uid) for shards in replicas(*names).values()) == 1


def test_the_shares_are_about_even() -> None:
    counts = Counter(highest(frozenset("abcd"), uid) for uid in UIDS)
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_one_that_dies_or_joins_moves_only_its_own_share() -> None:
    before = {uid: highest(frozenset("abc"), uid) for uid in UIDS}
    after = {uid: highest(frozenset("ab"), uid) for uid in UIDS}
    assert all(after[uid] == before[uid] for uid in UIDS if before[uid] != "c")
    assert {after[uid] for uid in UIDS if before[uid] == "c"} == {"a", "b"}


def test_one_that_has_just_joined_has_no_share_yet() -> None:
    found = replicas("a", "b", ages_s={"a": OLD, "b": 0.5})
    assert all(found["a"].owns(uid) for uid in UIDS)
    assert not any(found["b"].owns(uid) or found["b"].speaks(uid) for uid in UIDS)
    assert found["a"].others


def test_where_all_have_just_started_the_first_reads_everything() -> None:
    found = replicas("a", "b", ages_s={"a": 0.1, "b": 0.2})
    assert all(found["b"].owns(uid) for uid in UIDS)


def test_without_others_a_replica_reads_everything_and_speaks() -> None:
    alone = Shards("a")
    assert alone.owns("x") and alone.speaks("p") and not alone.others


def test_nobody_speaks_before_it_is_known_who_is_there() -> None:
    shards, told = Shards("a", decided=False), list[str]()
    shards.on_change(lambda: told.append("changed"))
    assert shards.owns("x") and not shards.speaks("p")
    shards.give_up_waiting()
    assert shards.speaks("p") and told == ["changed"]


def test_a_redis_that_lost_its_memory_changes_no_share() -> None:
    shards = replicas("a", "b")["a"]
    assert not shards.heard({"a": 0.0, "b": 0.0})
    assert shards.heard({"a": 0.0}), "but a replica that is gone is gone"


def test_a_share_is_told_when_it_changes_and_whole_every_second() -> None:
    changes, now = ShareChanges(), 1_000.0
    one, two = an_endpoint(1), an_endpoint(2)
    first = changes.share("p", [one, two], now)
    assert first is not None and [item.uid for item in first.endpoints] == ["e1", "e2"]
    assert changes.share("p", [one, two], now + 0.1) is None
    changed = changes.share("p", [one, an_endpoint(2, waiting=7)], now + 0.2)
    assert changed is not None and [item.uid for item in changed.endpoints] == ["e2"]
    whole = changes.share("p", [one, two], now + WHOLE_S)
    assert whole is not None and len(whole.endpoints) == 2


def test_of_an_endpoint_that_was_not_looked_at_nothing_is_told() -> None:
    unread = replace(an_endpoint(1), ready=False, metrics=EndpointMetrics())
    assert ShareChanges().share("p", [unread], 0.0) is None
