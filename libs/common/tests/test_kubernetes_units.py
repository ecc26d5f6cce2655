import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.errors import SettingsError
from pointsman_common.kubernetes_units import parse_duration_s, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        (5, 5),
        ("0", 0),
        ("10k", 10_000),
        ("500M", 500_000_000),
        ("1Gi", 1 << 30),
        ("1.5Ki", 1536),
        ("2T", 2 * 10**12),
        ("1e3", 1000),
        ("9E", 9 * 10**18),
        ("1500m", 2),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_quantities_are_read_as_kubernetes_reads_them(text: int | str | None, value: int) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", "Gi", "1gi", "1 Gi", "-1", -1, "inf", "nan", "1_000", "1e999999999", "10E"]
)
def test_what_is_no_quantity_is_refused(text: int | str) -> None:
    with pytest.raises(SettingsError):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("30s", 30.0), ("200ms", 0.2), ("1m30s", 90.0), ("1.5h", 5400.0), ("2µs", 2e-6)],
)
def test_durations_are_read_as_go_reads_them(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1..5s", ".s", "-1s", "1s ", "1day", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_duration_s(text)


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, millis: int) -> None:
    text = f"{hours}h{minutes}m{millis}ms"
    assert parse_duration_s(text) == pytest.approx(hours * 3600 + minutes * 60 + millis / 1e3)
