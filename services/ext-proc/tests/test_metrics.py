from prometheus_client import generate_latest

from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_common.contracts.scheduling_pb2 import Picked
from pointsman_common.testing.builders import a_descriptor
from pointsman_ext_proc.core.exchange_events import Dispatched, Refused, Usage
from pointsman_ext_proc.core.layer_sequence import Hop
from pointsman_ext_proc.core.open_lease import LeaseEnd, OpenLease
from pointsman_ext_proc.metrics import MAX_NAMES, Metrics


def a_lease(model: str = "m", *, streaming: bool = True) -> OpenLease:
    dispatched = Dispatched("l", a_descriptor(model=model), (), Picked())
    lease = OpenLease(dispatched, 100.0, 100.5, request_bytes=400)
    lease.first_chunk_at, lease.streaming = 101.0, streaming
    return lease


def value(metrics: Metrics, name: str) -> float:
    return sum(
        sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    )


def test_a_finished_lease_is_measured_from_the_arrival_of_its_request() -> None:
    metrics, lease = Metrics(), a_lease()
    metrics.lease_opened(lease)
    metrics.lease_ended(lease, LeaseEnd(200, "finished", 50, Usage(7, 10, 3)), 110.0)
    assert value(metrics, "llm_d_epp_request_duration_seconds_sum") == 10.0
    assert value(metrics, "llm_d_epp_request_ttft_seconds_sum") == 1.0
    assert value(metrics, "llm_d_epp_request_ntpot_seconds_sum") == 1.0
    assert value(metrics, "llm_d_epp_request_streaming_tpot_seconds_sum") == 1.0
    assert value(metrics, "llm_d_epp_request_cached_tokens_sum") == 3.0
    assert value(metrics, "llm_d_epp_request_size_bytes_sum") == 400.0
    assert value(metrics, "llm_d_epp_request_running") == 0.0


def test_errors_of_the_model_server_show_as_such() -> None:
    metrics, lease = Metrics(), a_lease()
    metrics.lease_opened(lease)
    metrics.lease_ended(lease, LeaseEnd(500, "finished"), 101.0)
    assert b'error_code="ModelServerError"' in generate_latest(metrics.registry)


def test_an_evicted_request_is_no_error_of_the_model_server() -> None:
    metrics, lease = Metrics(), a_lease()
    metrics.lease_opened(lease)
    metrics.lease_ended(lease, LeaseEnd(429, "evicted"), 101.0)
    assert value(metrics, "llm_d_epp_request_error_total") == 0.0
    assert value(metrics, "llm_d_epp_request_running") == 0.0


def test_refusals_are_counted_by_their_code_with_what_was_understood() -> None:
    metrics = Metrics()
    metrics.refused(Refused(Rejection(http_status=429, code="ResourceExhausted"), a_descriptor()))
    metrics.refused(Refused(Rejection(http_status=400, code="BadRequest")))
    shown = generate_latest(metrics.registry)
    assert b'error_code="ResourceExhausted",fairness_id="default-flow",model_name="llama"' in shown
    assert b'error_code="BadRequest",fairness_id="",model_name=""' in shown


def test_names_that_clients_choose_are_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_NAMES + 50):
        metrics.lease_opened(a_lease(f"m{number}"))
    labels = {
        sample.labels["model_name"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "llm_d_epp_request_total"
    }
    assert len(labels) == MAX_NAMES + 1
    assert "other" in labels


def test_a_hop_that_was_not_made_has_no_duration() -> None:
    metrics = Metrics()
    metrics.hop(Hop.PICK, 0.0, "circuit-open")
    assert value(metrics, "pointsman_edge_hop_duration_seconds_count") == 0.0
    assert value(metrics, "pointsman_edge_hop_failures_total") == 1.0
