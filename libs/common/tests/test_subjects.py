import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common import subjects
from pointsman_common.testing.in_memory_bus import matches

OF_A_POOL = [
    subjects.pool_config,
    subjects.pool_snapshot,
    subjects.pool_delta,
    subjects.request_picked,
    subjects.request_serving,
    subjects.request_finished,
    subjects.leases_query,
    subjects.prefix_query,
    subjects.decision,
    subjects.flow_stats,
]
NAMES = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name != "*")


def test_subjects_read_as_the_contract_says() -> None:
    assert subjects.pool_delta("default/llama") == "pointsman.v1.default/llama.state.delta"
    assert subjects.request_picked("team/a.b") == "pointsman.v1.team/a%2Eb.request.picked"
    assert subjects.kv_events("d/l", "10.0.0.1:8000") == "pointsman.v1.d/l.kv.10%2E0%2E0%2E1:8000"
    assert subjects.shadow("d/l", "new one") == "pointsman.v1.d/l.shadow.new%20one"
    assert subjects.HEARTBEAT == "pointsman.v1.layers.heartbeat"


@given(NAMES)
def test_a_pools_name_comes_back_from_each_of_its_subjects(pool: str) -> None:
    for subject in OF_A_POOL:
        assert subjects.pool_of(subject(pool)) == pool
        assert not set(subject(pool)) & set(" \t\r\n*>")
        assert matches(subject(subjects.ALL), subject(pool))
        assert matches(subject(pool), subject(pool))


@given(NAMES, NAMES)
def test_subjects_of_two_pools_or_kinds_never_match(one: str, other: str) -> None:
    for index, subject in enumerate(OF_A_POOL):
        assert matches(subject(one), subject(other)) == (one == other)
        for different in OF_A_POOL[index + 1 :]:
            assert not matches(subject(subjects.ALL), different(one))


@given(NAMES, NAMES)
def test_endpoints_and_shadows_are_one_token(pool: str, name: str) -> None:
    assert matches("pointsman.v1.*.kv.*", subjects.kv_events(pool, name))
    assert matches("pointsman.v1.*.shadow.*", subjects.shadow(pool, name))


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a.b", True),
        ("a.*.>", "a.b.c", True),
        ("a.b.>", "a.c.d", False),
    ],
)
def test_the_bus_of_tests_matches_as_nats_does(pattern: str, subject: str, expected: bool) -> None:
    assert matches(pattern, subject) is expected
