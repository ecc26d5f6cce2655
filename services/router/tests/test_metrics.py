from pointsman_router.metrics import MAX_MODELS, Metrics

NAME = "llm_d_epp_model_rewrite_decisions_total"


def test_model_names_of_clients_are_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_MODELS + 5):
        metrics.count_rewrite("any", f"m{number}", "t")
    metrics.count_rewrite("any", "m0", "t")

    def count(model: str) -> float | None:
        labels = {"model_rewrite_name": "any", "model_name": model, "target_model": "t"}
        return metrics.registry.get_sample_value(NAME, labels)

    assert (count("m0"), count("other")) == (2.0, 5.0)
    assert count(f"m{MAX_MODELS}") is None
