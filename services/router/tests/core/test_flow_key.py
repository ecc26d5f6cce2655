from hypothesis import given
from hypothesis import strategies as st

from pointsman_router.core.flow_key import fairness_id_of


def test_without_a_header_the_flow_is_the_default_one() -> None:
    assert fairness_id_of(None) == "default-flow"
    assert fairness_id_of("") == "default-flow"


def test_a_long_id_is_bounded_and_stays_apart_from_another() -> None:
    one, two = fairness_id_of("t" * 500 + "1"), fairness_id_of("t" * 500 + "2")
    assert len(one) == len(two) == 128
    assert one != two


@given(st.text(min_size=1, max_size=128))
def test_an_id_of_usual_length_is_taken_as_it_is(name: str) -> None:
    assert fairness_id_of(name) == name
