import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.grpc.timeouts import encode_timeout, parse_timeout, round_timeout


@pytest.mark.parametrize(
    ("timeout_s", "field"),
    [(5.0, b"5000m"), (4.9937, b"5000m"), (0.0123, b"13000u"), (0.0, b"0u"), (1e9, b"90000000m")],
)
def test_timeouts_are_told_by_two_digits(timeout_s: float, field: bytes) -> None:
    assert encode_timeout(*round_timeout(timeout_s)) == field


@given(st.floats(1e-6, 80_000.0))
def test_a_timeout_is_never_told_shorter_and_at_most_a_tenth_longer(timeout_s: float) -> None:
    told_s = parse_timeout(encode_timeout(*round_timeout(timeout_s)))
    assert timeout_s * 0.999_999 <= told_s <= timeout_s * 1.1 + 1e-6


@pytest.mark.parametrize(
    ("field", "seconds"),
    [(b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"99999999n", 0.099999999)],
)
def test_all_units_are_read(field: bytes, seconds: float) -> None:
    assert parse_timeout(field) == pytest.approx(seconds)


@pytest.mark.parametrize("field", [b"", b"S", b"5", b"5s", b"-1S", b"123456789S", b"1.5S"])
def test_other_forms_are_refused(field: bytes) -> None:
    with pytest.raises(ValueError, match="no grpc-timeout"):
        parse_timeout(field)
