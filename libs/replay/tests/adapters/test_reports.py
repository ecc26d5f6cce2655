"""An experiment from end to end, and its three reports."""

import json
from xml.etree import ElementTree

import msgspec
import pytest

from pointsman_replay.adapters.policy_catalogue import choose_policies
from pointsman_replay.adapters.production_pickers import PickerOptions
from pointsman_replay.core.experiment import Conditions, Report, run_experiment
from pointsman_replay.core.generated_trace import generate_trace
from pointsman_replay.core.report_html import html_report
from pointsman_replay.core.report_json import json_report
from pointsman_replay.core.report_text import geometric_mean_ratio, text_report
from pointsman_replay.core.trace import ReplayError, Trace
from pointsman_simulator.core.engine_profile import H100_8B

POLICIES = ["round-robin", "upstream", "pointsman"]


def named(name: str, seed: int) -> Trace:
    return msgspec.structs.replace(generate_trace(120, seed), name=name)


def a_report(*, seed: int = 1, loads: tuple[float, ...] = (0.5, 1.0)) -> Report:
    return run_experiment(
        [named("one", 1), named("<two>", 2)],
        choose_policies(POLICIES, PickerOptions()),
        Conditions(engine=H100_8B, replicas=2, loads=loads, seed=seed),
    )


REPORT = a_report()


def test_the_same_seed_writes_the_same_bytes_and_another_does_not() -> None:
    again = a_report()
    for write in (text_report, html_report, json_report):
        assert write(again) == write(REPORT)
    assert json_report(a_report(seed=2)) != json_report(REPORT)


def test_there_is_a_row_for_each_trace_load_and_policy() -> None:
    rows = [line.split() for line in text_report(REPORT).splitlines()]
    for policy in POLICIES:
        assert sum(row[1:2] == [policy] for row in rows) == 2 * 2
        assert sum(row[:1] == [policy] for row in rows) == 1  # over both traces
    assert "load 1.0 = " in text_report(REPORT)


def test_policies_are_compared_with_upstream_over_all_traces() -> None:
    assert REPORT.baseline == "upstream"
    assert geometric_mean_ratio(REPORT, 1.0, "upstream") == pytest.approx(1.0)
    of_one, of_two = (
        REPORT.cell(trace, 1.0, "pointsman").measures.ttft_s.mean
        / REPORT.cell(trace, 1.0, "upstream").measures.ttft_s.mean
        for trace in ("one", "<two>")
    )
    ratio = geometric_mean_ratio(REPORT, 1.0, "pointsman")
    assert ratio**2 == pytest.approx(of_one * of_two)


def test_the_page_needs_nothing_else_and_its_plots_are_well_formed() -> None:
    page = html_report(REPORT)
    assert "<script" not in page
    assert "http" not in page
    assert "src=" not in page
    assert "&lt;two&gt;" in page
    assert "<two>" not in page
    plots = [f"<svg {part.split('</svg>')[0]}</svg>" for part in page.split("<svg ")[1:]]
    assert len(plots) == len(POLICIES) + 2 * (6 + 2)
    for text in plots[len(POLICIES) :]:
        plot = ElementTree.fromstring(text)  # noqa: S314  (our own)
        assert len(plot.findall("g/polyline")) == len(POLICIES)
        assert all("nan" not in line.get("points", "") for line in plot.iter("polyline"))


def test_a_single_load_has_no_plots_over_load() -> None:
    page = html_report(a_report(loads=(0.8,)))
    assert "Mean time to first token" not in page
    assert "Time to first token at load 0.8" in page


def test_the_json_tells_all() -> None:
    told = json.loads(json_report(REPORT))
    assert told["conditions"]["replicas"] == 2
    assert len(told["cells"]) == 2 * 2 * 3
    assert len(told["cells"][0]["ttft_quantiles_s"]) == 101


def test_more_load_makes_everybody_wait_longer() -> None:
    for policy in POLICIES:
        quiet, busy = (REPORT.cell("one", load, policy).measures for load in (0.5, 1.0))
        assert quiet.ttft_s.mean < busy.ttft_s.mean


def test_two_traces_of_one_name_are_refused() -> None:
    with pytest.raises(ReplayError, match="two traces are called 'one'"):
        run_experiment(
            [named("one", 1), named("one", 2)],
            choose_policies(["round-robin"], PickerOptions()),
            Conditions(engine=H100_8B),
        )
