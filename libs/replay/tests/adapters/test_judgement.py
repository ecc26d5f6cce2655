from pointsman_replay.adapters.policy_catalogue import judged_policies
from pointsman_replay.core.experiment import Conditions
from pointsman_replay.core.generated_trace import generate_trace
from pointsman_replay.core.judgement import SEVERAL, STALE, Figure, Judgement, judge, text_judgement
from pointsman_simulator.core.engine_profile import PROFILES


def judged() -> Judgement:
    conditions = Conditions(engine=PROFILES["8b-h100"], replicas=2, loads=(0.7,))
    return judge([generate_trace(120, 1)], judged_policies(), conditions)


def test_a_judgement_has_each_figure_and_comes_out_the_same_again() -> None:
    judgement = judged()
    assert [figure.what for figure in judgement.figures] == [
        "mean TTFT to llm-d-router's default",
        "mean TTFT to the greedy oracle",
        "four replicas to one",
        "metrics 5 s old to fresh ones",
        "worst p99 TTFT of a trace to llm-d-router's",
    ]
    assert judgement == judged()
    report = judgement.report
    several, stale = (report.cell("generated", 0.7, policy) for policy in (SEVERAL, STALE))
    assert judgement.figures[3].value == stale.measures.ttft_s.mean / several.measures.ttft_s.mean


def test_a_broken_limit_is_told() -> None:
    report = judged().report
    kept, broken = Figure("a", 0.7, 1.0, 1.1), Figure("b", 0.7, 1.2, 1.1)
    assert Judgement((kept,), report).holds
    judgement = Judgement((kept, broken), report)
    assert not judgement.holds
    assert "BROKEN" in text_judgement(judgement)
