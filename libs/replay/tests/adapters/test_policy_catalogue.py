"""Policies by name, and what is said of those that there are not."""

from pathlib import Path

import pytest

from pointsman_replay.adapters.policy_catalogue import DEFAULTS, NAMES, PRODUCTION, choose_policies
from pointsman_replay.adapters.production_pickers import PickerOptions
from pointsman_replay.core.generated_trace import generate_trace
from pointsman_replay.core.replay_run import ReplayRun
from pointsman_replay.core.trace import ReplayError, scaled_to_span
from pointsman_simulator.core.engine_profile import H100_8B


def test_every_policy_of_the_catalogue_serves_a_trace() -> None:
    trace = scaled_to_span(generate_trace(60, 1), 10.0)
    for name, build in choose_policies(list(NAMES), PickerOptions()).items():
        served = ReplayRun(trace, H100_8B, 3, build, seed=name).run().served
        assert len(served) == 60, name
        assert {one.row for one in served} == {0, 1, 2}, name


def test_the_defaults_are_of_the_catalogue() -> None:
    assert set(DEFAULTS) <= set(NAMES)


def test_a_file_is_a_policy_of_the_production_scheduler(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(PRODUCTION["upstream"])
    trace = scaled_to_span(generate_trace(60, 1), 10.0)
    policies = choose_policies([f"mine={file}", "upstream"], PickerOptions())
    mine, upstream = (
        ReplayRun(trace, H100_8B, 3, build, seed="1").run() for build in policies.values()
    )
    assert list(policies) == ["mine", "upstream"]
    assert mine == upstream


def test_what_is_no_policy_is_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(PRODUCTION["upstream"].replace("queue-scorer", "quote-scorer"))
    for chosen, said in (
        (["best"], "no policy 'best'; there are: round-robin"),
        (["oracle", "oracle"], "asked for twice"),
        (["mine="], "is not name=config.yaml"),
        ([f"mine={tmp_path / 'none.yaml'}"], "cannot be read"),
        ([f"mine={broken}"], "policy mine: .*no plugin 'quote-scorer'"),
    ):
        with pytest.raises(ReplayError, match=said):
            choose_policies(chosen, PickerOptions())
