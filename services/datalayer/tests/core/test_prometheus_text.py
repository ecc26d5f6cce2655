"""Reading wanted families out of an exposition, and what a broken one does."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pointsman_datalayer.core.prometheus_text import (
    MAX_LINES,
    MAX_SAMPLES,
    Exposition,
    ExpositionReader,
)


def read(body: bytes, *wanted: str) -> Exposition:
    return ExpositionReader(wanted).read(body)


def values(text: str, name: str) -> list[float]:
    return [sample.value for sample in read(text.encode(), name).samples.get(name, [])]


def test_only_the_wanted_names_are_read() -> None:
    text = '# HELP a x\n# TYPE a gauge\na 1\nab 2\na_total 3\nb{x="y"} 4\n'
    assert read(text.encode(), "a", "b").samples.keys() == {"a", "b"}
    assert values(text, "a") == [1.0]


def test_a_name_at_the_start_and_one_at_the_end_without_newline_are_found() -> None:
    assert values("a 1\nb 2\na 3", "a") == [1.0, 3.0]


def test_labels_are_unescaped_and_may_hold_braces_commas_and_quotes() -> None:
    text = 'a{x="1,}\\"2\\"",  y="b\\\\n\\nc", z="",} 5 1700000000000\n'
    (sample,) = read(text.encode(), "a").samples["a"]
    assert sample.labels == {"x": '1,}"2"', "y": "b\\n\nc", "z": ""}
    assert (sample.value, sample.timestamp) == (5.0, 1.7e12)


def test_an_exemplar_after_the_value_is_ignored() -> None:
    assert values('a{x="y"} 5 # {trace_id="1"} 0.5\n', "a") == [5.0]


@pytest.mark.parametrize(
    "line", ["a", "a ", "a{", 'a{x="y} 1', "a{x=y} 1", 'a{x="y"}', "a one", 'a{x="y" z="w"} 1']
)
def test_a_malformed_line_is_skipped_and_the_next_is_read(line: str) -> None:
    assert values(f"{line}\na 7\n", "a") == [7.0]


def test_malformed_lines_are_counted() -> None:
    assert read(b"a{ 1\na x\na 3\n", "a").malformed == 2


def test_no_more_samples_are_held_than_the_bound() -> None:
    assert len(values('a{x="y"} 1\n' * (MAX_SAMPLES + 9), "a")) == MAX_SAMPLES


@given(st.binary(max_size=400))
def test_no_bytes_make_it_fail(noise: bytes) -> None:
    exposition = read(b"a{" + noise + b"\na 7\n" + noise, "a")
    assert exposition.samples["a"]


LABEL_VALUES = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), LABEL_VALUES))
def test_what_is_escaped_as_the_format_says_is_read_back(labels: dict[str, str]) -> None:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    written = ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items())
    (sample,) = read(f"a{{{written}}} 1\n".encode(), "a").samples["a"]
    assert sample.labels == labels


def test_a_family_ends_where_the_next_one_begins() -> None:
    text = "# TYPE a gauge\na 1\n# any remark\na{} 2\n# TYPE b gauge\nb 3\na 4\n"
    assert values(text, "a") == [1.0, 2.0]


def test_a_longer_name_before_it_does_not_end_the_search() -> None:
    text = '# TYPE a_by gauge\na_by{r="x"} 1\n# TYPE a gauge\na 2\na_total 9\n'
    assert values(text, "a") == [2.0]


def test_more_lines_than_the_bound_are_not_looked_at() -> None:
    assert values("ab 1\n" * (MAX_LINES + 1) + "a 1\n", "a") == []
    assert read(b"a{\n" * (2 * MAX_LINES), "a").malformed == MAX_LINES


def test_labels_that_come_again_are_the_same_and_a_new_value_is_read() -> None:
    reader = ExpositionReader(["a"])
    for value in (1.0, 2.0):
        text = f'a{{x="y"}} {value} # {{trace="{value}"}} 1\na{{x="z"}} {value}\n'
        first, second = reader.read(text.encode()).samples["a"]
        assert (first.labels, first.value) == ({"x": "y"}, value)
        assert (second.labels, second.value) == ({"x": "z"}, value)


NAMES = st.sampled_from(["a", "a_b", "ab", "b:c", "c_total"])
NUMBERS = st.one_of(st.floats(allow_nan=False), st.integers(-(2**40), 2**40))


@given(
    st.dictionaries(
        NAMES,
        st.lists(
            st.tuples(
                st.dictionaries(st.sampled_from(["x", "y", "le"]), LABEL_VALUES),
                NUMBERS,
                st.none() | st.integers(0, 2**41),
            ),
            min_size=1,
            max_size=4,
        ),
    ),
    st.booleans(),
)
def test_well_formed_text_is_read_as_the_reference_parser_reads_it(
    families: dict[str, list[tuple[dict[str, str], float, int | None]]], typed: bool
) -> None:
    lines: list[str] = []
    for name, samples in families.items():
        lines += [f"# HELP {name} {name} 1", f"# TYPE {name} gauge"] if typed else []
        for labels, value, timestamp in samples:
            written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            stamp = "" if timestamp is None else f" {timestamp}"
            lines.append(f"{name}{{{written}}} {value}{stamp}")
    text = "\n".join([*lines, ""])
    expected = [
        (sample.name, sample.labels, sample.value, sample.timestamp)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    reader = ExpositionReader(sorted(families))
    for _ in range(2):  # the second time with labels that are known
        found = reader.read(text.encode())
        assert found.malformed == 0
        assert sorted(expected, key=repr) == sorted(
            (
                (
                    name,
                    dict(sample.labels),
                    sample.value,
                    None if sample.timestamp is None else sample.timestamp / 1000,
                )
                for name, samples in found.samples.items()
                for sample in samples
            ),
            key=repr,
        )


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_page_that_is_cut_or_overwritten_never_makes_it_fail(cut: bytes, noise: bytes) -> None:
    page = b'# TYPE a gauge\na{x="y"} 1\na 2\n# TYPE b gauge\nb{z="w"} 3 4\n'
    reader = ExpositionReader(["a", "b"])
    for body in (page[: len(cut)] + noise, noise + page, page[: len(cut)] + noise + page):
        exposition = reader.read(body)
        found = sum(len(samples) for samples in exposition.samples.values())
        assert found + exposition.malformed <= body.count(b"\n") + 1


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def test_a_hundred_kilobytes_are_read_fast() -> None:
    """The budget is 400 µs; the test allows a busy machine five times that."""
    histogram = "".join(
        f'vllm:time_to_first_token_seconds_bucket{{le="{step}",model_name="m"}} {step}\n'
        for step in range(1700)
    )
    text = f'{histogram}vllm:num_requests_waiting{{model_name="m"}} 3\n'.encode()
    reader = ExpositionReader([f"vllm:name_{n}" for n in range(8)] + ["vllm:num_requests_waiting"])
    assert len(text) > 100_000
    best = min(_timed(text, reader) for _ in range(20))
    assert best < 5 * 400e-6


def _timed(text: bytes, reader: ExpositionReader) -> float:
    start = time.perf_counter()
    assert reader.read(text).samples["vllm:num_requests_waiting"][0].value == 3
    return time.perf_counter() - start
