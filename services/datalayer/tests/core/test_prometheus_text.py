"""Reading wanted families out of an exposition, and what a broken one does."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_datalayer.core.prometheus_text import MAX_SAMPLES, read_samples


def values(text: str, name: str) -> list[float]:
    return [sample.value for sample in read_samples(text.encode(), [name]).samples.get(name, [])]


def test_only_the_wanted_names_are_read() -> None:
    text = '# HELP a x\n# TYPE a gauge\na 1\nab 2\na_total 3\nb{x="y"} 4\n'
    assert read_samples(text.encode(), ["a", "b"]).samples.keys() == {"a", "b"}
    assert values(text, "a") == [1.0]


def test_a_name_at_the_start_and_one_at_the_end_without_newline_are_found() -> None:
    assert values("a 1\nb 2\na 3", "a") == [1.0, 3.0]


def test_labels_are_unescaped_and_may_hold_braces_commas_and_quotes() -> None:
    text = 'a{x="1,}\\"2\\"",  y="b\\\\n\\nc", z="",} 5 1700000000000\n'
    (sample,) = read_samples(text.encode(), ["a"]).samples["a"]
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
    assert read_samples(b"a{ 1\na x\na 3\n", ["a"]).malformed == 2


def test_no_more_samples_are_held_than_the_bound() -> None:
    assert len(values('a{x="y"} 1\n' * (MAX_SAMPLES + 9), "a")) == MAX_SAMPLES


@given(st.binary(max_size=400))
def test_no_bytes_make_it_fail(noise: bytes) -> None:
    exposition = read_samples(b"a{" + noise + b"\na 7\n" + noise, ["a"])
    assert exposition.samples["a"]


LABEL_VALUES = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), LABEL_VALUES))
def test_what_is_escaped_as_the_format_says_is_read_back(labels: dict[str, str]) -> None:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    written = ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items())
    (sample,) = read_samples(f"a{{{written}}} 1\n".encode(), ["a"]).samples["a"]
    assert sample.labels == labels


def test_a_hundred_kilobytes_are_read_fast() -> None:
    """The budget is 400 µs; the test allows a busy machine five times that."""
    histogram = "".join(
        f'vllm:time_to_first_token_seconds_bucket{{le="{step}",model_name="m"}} {step}\n'
        for step in range(1700)
    )
    text = f'{histogram}vllm:num_requests_waiting{{model_name="m"}} 3\n'.encode()
    wanted = [f"vllm:name_{index}" for index in range(8)] + ["vllm:num_requests_waiting"]
    assert len(text) > 100_000
    best = min(_timed(text, wanted) for _ in range(20))
    assert best < 5 * 400e-6


def _timed(text: bytes, wanted: list[str]) -> float:
    start = time.perf_counter()
    assert read_samples(text, wanted).samples["vllm:num_requests_waiting"][0].value == 3
    return time.perf_counter() - start
