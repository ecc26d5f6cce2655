from pointsman_common.testing.builders import an_endpoint
from pointsman_scheduler.metrics import Metrics


def series(metrics: Metrics) -> int:
    return sum(
        sample.name == "llm_d_epp_scheduler_attempts_total"
        for family in metrics.registry.collect()
        for sample in family.samples
    )


def test_endpoints_that_come_and_go_do_not_pile_up_series() -> None:
    metrics = Metrics(attempt_series=10)
    for index in range(95):
        metrics.attempt("success", "llama", an_endpoint(index))
        assert series(metrics) <= 10


def test_models_beyond_the_bound_are_other() -> None:
    metrics = Metrics(models=2)
    for model in ("a", "b", "c", "d"):
        metrics.attempt("failure", model, None)
    assert series(metrics) == 3
