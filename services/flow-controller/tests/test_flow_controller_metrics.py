import pytest
from prometheus_client import generate_latest

from pointsman_flow_controller import metrics as module
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome
from pointsman_flow_controller.metrics import Metrics

POOL = "default/llama"
WENT = QueueExit(QueueOutcome.DISPATCHED, queued_s=0.02)


def labels(flow: str, model: str = "m") -> dict[str, str]:
    return {
        "fairness_id": flow,
        "priority": "0",
        "inference_pool": POOL,
        "model_name": model,
        "target_model_name": model,
    }


def a_request(flow: str = "A", model: str = "m") -> QueuedRequest:
    return QueuedRequest("l", fairness_id=flow, body_bytes=7, model=model, target_model=model)


def test_what_waits_is_shown_until_it_leaves() -> None:
    metrics, request = Metrics(), a_request()
    metrics.entered(POOL, request)
    value = metrics.registry.get_sample_value
    assert value("llm_d_epp_flow_control_queue_size", labels("A")) == 1
    assert value("llm_d_epp_flow_control_queue_bytes", labels("A")) == 7
    metrics.left_queue(POOL, request)
    metrics.left(POOL, request, WENT)
    assert value("llm_d_epp_flow_control_queue_size", labels("A")) == 0
    assert value(
        "llm_d_epp_flow_control_request_queue_duration_seconds_sum",
        {**labels("A"), "outcome": "Dispatched"},
    ) == pytest.approx(0.02)


def test_the_deprecated_names_show_the_same() -> None:
    metrics = Metrics()
    metrics.entered(POOL, a_request())
    metrics.show_saturation(POOL, {"effective": 0.5})
    text = generate_latest(metrics.registry).decode()
    pairs = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in text.splitlines()}
    twins = {name: value for name, value in pairs.items() if name.startswith("inference_ext")}
    assert any("flow_control_pool_saturation" in name for name in twins)
    for name, value in twins.items():
        assert pairs[name.replace("inference_extension_", "llm_d_epp_")] == value


def test_names_of_clients_are_bounded_and_every_decrement_meets_its_increment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_NAMES", 3)
    monkeypatch.setattr(module, "MOST_SERIES", 5)
    metrics = Metrics()
    requests = [a_request(f"flow-{index}", f"model-{index % 4}") for index in range(50)]
    for request in requests:
        metrics.entered(POOL, request)
    [family] = [
        item
        for item in metrics.registry.collect()
        if item.name == "llm_d_epp_flow_control_queue_size"
    ]
    assert len(family.samples) <= 6
    assert sum(sample.value for sample in family.samples) == 50
    for request in requests:
        metrics.left_queue(POOL, request)
    assert all(
        sample.value == 0
        for item in metrics.registry.collect()
        if item.name == "llm_d_epp_flow_control_queue_size"
        for sample in item.samples
    )
