from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from pointsman_ext_proc.histograms import HistogramFamily

BOUNDS = (0.005, 0.5, 1, 1_048_576.0)


def shown(registry: CollectorRegistry) -> list[str]:
    text = generate_latest(registry).decode()
    return [line for line in text.splitlines() if "_created" not in line]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", 'b"\\']),
            st.sampled_from([0.0, 0.005, 0.0051, 0.5, 1.0, 7.0, 1e6, 1_048_576.0, 1e9]),
        )
    )
)
def test_it_shows_what_the_librarys_own_histogram_shows(observed: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    family = HistogramFamily("x_seconds", "Some time", BOUNDS, ("who",), registry=ours)
    library = Histogram("x_seconds", "Some time", ("who",), buckets=BOUNDS, registry=theirs)
    for who, value in observed:
        family.labels(who).observe(value)
        library.labels(who).observe(value)
    assert shown(ours) == shown(theirs)


def test_a_series_is_made_once() -> None:
    family = HistogramFamily("x", "X", BOUNDS, ("who",), registry=CollectorRegistry())
    assert family.labels("a") is family.labels("a")
