"""The text format, as the Prometheus client library writes it."""

import pytest

from pointsman_simulator.adapters.exposition import Histogram, format_labels, format_value, sample


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0"),
        (12.5, "12.5"),
        (999_999, "999999.0"),
        (1_000_000, "1e+06"),
        (1795514565.3123734, "1.7955145653123734e+09"),
        (1.5e-07, "1.5e-07"),
        (float("inf"), "+Inf"),
    ],
)
def test_numbers_switch_to_exponents_at_a_million(value: float, text: str) -> None:
    assert format_value(value) == text


def test_labels_are_sorted_and_escaped() -> None:
    assert format_labels({"b": 'x"\\\n', "a": ""}) == '{a="",b="x\\"\\\\\\n"}'
    assert sample("m", {"a": "1"}, 2) == 'm{a="1"} 2.0'


def test_buckets_are_cumulative_and_include_their_bound() -> None:
    histogram = Histogram("m", {"z": "1"}, (0.5, 1.0))
    histogram.observe(0.5)
    histogram.observe(0.75, times=2)
    histogram.observe(9.0)
    assert histogram.lines() == [
        'm_bucket{le="0.5",z="1"} 1.0',
        'm_bucket{le="1.0",z="1"} 3.0',
        'm_bucket{le="+Inf",z="1"} 4.0',
        'm_count{z="1"} 4.0',
        'm_sum{z="1"} 11.0',
    ]
