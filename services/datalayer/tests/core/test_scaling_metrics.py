"""Label selectors and quantities as Kubernetes writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.contracts.pool_pb2 import Regime, Scarcity
from pointsman_datalayer.core.scaling_metrics import (
    METRICS,
    SelectorError,
    labels_of,
    matches,
    parse_selector,
    quantity,
)

LABELS = labels_of("prod/llama")


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ("", True),
        ("pool=llama", True),
        ("pool==llama", True),
        ("pool = llama , namespace=prod", True),
        ("pool=other", False),
        ("pool!=other", True),
        ("pool!=llama", False),
        ("tier!=gold", True),
        ("pool in (a, llama)", True),
        ("pool notin (a,llama)", False),
        ("tier notin (gold)", True),
        ("pool", True),
        ("tier", False),
        ("!tier", True),
        ("!pool", False),
        ("pool=", False),
        ("pool in (llama),tier", False),
    ],
)
def test_a_selector_chooses_by_labels(selector: str, holds: bool) -> None:
    assert matches(parse_selector(selector), LABELS) is holds


@pytest.mark.parametrize(
    "selector", ["pool=a=b", "pool in a", "=x", "a,,b", "a,", "pool in (a", "?"]
)
def test_what_is_no_selector_is_refused_with_the_place(selector: str) -> None:
    with pytest.raises(SelectorError, match="label selector"):
        parse_selector(selector)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_selector(text)
    except SelectorError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (3.0, "3"), (0.75, "750m"), (1.2345, "1234m"), (1234.5, "1234500m")],
)
def test_quantities_are_whole_or_in_thousandths(value: float, text: str) -> None:
    assert quantity(value) == text


def test_what_is_not_known_has_no_value() -> None:
    known = Regime(recommended_replicas=0, scarcity=Scarcity.SCARCITY_IDLE)
    assert METRICS["pointsman_recommended_replicas"](Regime()) is None
    assert METRICS["pointsman_recommended_replicas"](known) == 0.0
    assert METRICS["pointsman_pool_saturation"](Regime()) is None
