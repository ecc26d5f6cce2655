"""Windows of a shadow's reports, put together."""

import pytest

from pointsman_cli.core.shadow_summary import summarize, verdict
from pointsman_common.contracts.events_pb2 import ShadowReport


def a_report(**fields: object) -> ShadowReport:
    told = {"pool": "default/llama", "name": "canary", "config_hash": "c1", "window_s": 5.0}
    return ShadowReport(**{**told, **fields})  # type: ignore[arg-type]  # a message's own fields


def test_means_are_weighted_by_the_decisions_behind_them() -> None:
    [summary] = summarize(
        [
            a_report(
                decisions=11,
                refused=1,
                agreed=10,
                mean_predicted_ttft_s=0.1,
                mean_predicted_ttft_production_s=0.2,
                hit_ratio=1.0,
                observed=1,
                mean_observed_ttft_s=1.0,
                missed=2,
            ),
            a_report(
                decisions=30,
                agreed=0,
                mean_predicted_ttft_s=0.5,
                mean_predicted_ttft_production_s=0.2,
                observed=3,
                mean_observed_ttft_s=2.0,
                skipped_by={"no-descriptor": 4},
                missed=3,
            ),
            a_report(),
        ]
    )
    assert (summary.windows, summary.seconds, summary.decisions) == (3, 15.0, 41)
    assert (summary.refused, summary.missed, summary.skipped) == (1, 3, {"no-descriptor": 4})
    assert summary.agreement == pytest.approx(10 / 41)
    assert summary.predicted_ttft_s == pytest.approx(0.4)
    assert summary.hit_ratio == pytest.approx(0.25)
    assert summary.observed_ttft_production_s == pytest.approx(1.75)
    assert verdict(summary).startswith("first tokens 100.0% later")


def test_pools_shadows_and_configurations_are_told_apart() -> None:
    reports = [a_report(), a_report(name="other"), a_report(config_hash="c2"), a_report()]
    assert [(one.name, one.config_hash, one.windows) for one in summarize(reports)] == [
        ("canary", "c1", 2),
        ("canary", "c2", 1),
        ("other", "c1", 1),
    ]


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (a_report(), "nothing was decided on yet"),
        (a_report(skipped_by={"no-descriptor": 3}), "nothing was decided on: no-descriptor"),
        (
            a_report(decisions=1, mean_predicted_ttft_s=0.1, mean_predicted_ttft_production_s=0.1),
            "its choices would have been worth as much as production's",
        ),
        (
            a_report(decisions=1, mean_predicted_ttft_s=0.1, mean_predicted_ttft_production_s=0.2),
            "first tokens 50.0% sooner than production's, as predicted on its state",
        ),
    ],
)
def test_the_verdict_is_one_sentence(report: ShadowReport, says: str) -> None:
    [summary] = summarize([report])
    assert verdict(summary) == says
