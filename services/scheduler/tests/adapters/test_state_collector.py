from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_scheduler.adapters.state_collector import StateCollector
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.testing import Desk


def test_state_is_read_at_the_scrape() -> None:
    desk, metrics = Desk([an_endpoint(1, running=3, waiting=2)]), Metrics()
    clock = VirtualClock(monotonic=1_002.0)
    metrics.collect_with(StateCollector(clock, desk.view, desk.leases, desk.picking).collect)
    desk.pick(lease_id="l1", block_hashes=[1, 2, 3], prompt_tokens=192)
    desk.pick(lease_id="l2", prompt_tokens=10)
    desk.leases.serve("l2")

    def sample(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    in_flight = {
        "endpoint_name": "pod-1-rank-0",
        "namespace": "default",
        "producer_name": "inflight-load-producer",
        "fairness_id": "default-flow",
        "priority": "0",
    }
    assert sample("llm_d_epp_inflight_requests", **in_flight) == 2
    assert sample("llm_d_epp_inflight_tokens", **in_flight) == 192
    producer = "approx-prefix-cache-producer"
    size = sample("llm_d_epp_prefix_indexer_size", plugin_name=producer, plugin_type=producer)
    assert size == 3
    assert sample("pointsman_scheduler_state_age_seconds", pool=POOL) == 2.0
    difference = sample(
        "pointsman_scheduler_lease_engine_difference",
        pool=POOL,
        endpoint_name="default/pod-1-rank-0",
    )
    assert difference == 2 - 5


def test_a_flood_of_models_ends_in_one_label() -> None:
    metrics = Metrics()
    for number in range(1_100):
        metrics.attempt("failure", f"m{number}", None)
    name = "llm_d_epp_scheduler_attempts_total"
    others = {"status": "failure", "endpoint_name": "", "namespace": "", "port": ""}
    count = metrics.registry.get_sample_value(name, {"target_model_name": "other", **others})
    assert count == 100
