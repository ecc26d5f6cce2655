"""What the registry holds after discovery, scrapes, failures and a warm start."""

from dataclasses import replace

from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.builders import an_endpoint
from pointsman_datalayer.core.endpoint_registry import MAX_GONE, EndpointRegistry
from pointsman_datalayer.core.engine_metrics import Extraction
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.staleness import ReadinessLimits

POOL = "default/llama"


def a_registry(*uids: str) -> EndpointRegistry:
    registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
    if uids:
        registry.discover({POOL: a_pool(*uids)})
    return registry


def a_pool(*uids: str, name: str = POOL, config_hash: str = "h") -> DiscoveredPool:
    endpoints = tuple(DiscoveredEndpoint(uid, f"n-{uid}", f"{uid}:1", {}, "vllm") for uid in uids)
    return DiscoveredPool(InferencePool(name=name, hash=config_hash), endpoints)


def a_report(
    *, waiting: int = 0, started_at: float | None = None, tokens: float | None = None
) -> Extraction:
    counters = {} if tokens is None else {"tokens": tokens}
    metrics = EndpointMetrics(waiting_requests=waiting, read_at=10.0)
    return Extraction(metrics, (), started_at, counters)


def uids(registry: EndpointRegistry, pool: str = POOL) -> list[str]:
    return [endpoint.uid for endpoint in registry.endpoints(pool)]


def test_an_endpoint_is_ready_from_its_first_good_scrape() -> None:
    registry = a_registry("a")
    (endpoint,) = registry.endpoints(POOL)
    assert (endpoint.ready, endpoint.not_ready_reason) == (False, "not scraped yet")
    registry.record_scrape("a", a_report(waiting=3))
    (endpoint,) = registry.endpoints(POOL)
    assert (endpoint.ready, endpoint.metrics.waiting_requests) == (True, 3)


def test_metrics_survive_a_new_discovery_of_the_same_endpoint() -> None:
    registry = a_registry("a")
    registry.record_scrape("a", a_report(waiting=3))
    registry.discover({POOL: a_pool("a", "b", config_hash="h2")})
    assert [endpoint.metrics.waiting_requests for endpoint in registry.endpoints(POOL)] == [3, None]
    assert registry.pools()[POOL].config.hash == "h2"


def test_a_pool_without_manifest_is_kept_without_endpoints() -> None:
    registry = a_registry("a")
    registry.discover({"default/other": a_pool("b", name="default/other")})
    assert registry.pools()[POOL].gone
    assert uids(registry) == []
    registry.discover({POOL: a_pool("a")})
    assert not registry.pools()[POOL].gone


def test_no_more_pools_that_went_are_held_than_the_bound() -> None:
    registry = a_registry()
    for number in range(MAX_GONE + 5):
        name = f"default/{number}"
        registry.discover({name: a_pool("a", name=name)})
    assert len(registry.pools()) == MAX_GONE + 1


def test_a_scrape_that_ends_after_its_endpoint_has_gone_changes_nothing() -> None:
    registry = a_registry("a")
    registry.discover({POOL: a_pool("b")})
    registry.record_scrape("a", a_report())
    registry.record_unreachable("a", "gone", 1.0)
    registry.discover({POOL: a_pool("a")})
    (endpoint,) = registry.endpoints(POOL)
    assert endpoint.not_ready_reason == "not scraped yet"


def test_an_unchanged_endpoint_is_the_same_object() -> None:
    registry = a_registry("a", "b")
    before = list(registry.endpoints(POOL))
    registry.record_scrape("b", a_report())
    after = list(registry.endpoints(POOL))
    assert after[0] is before[0]
    assert after[1] is not before[1]


def test_a_later_process_start_is_a_restart_and_an_earlier_one_is_not() -> None:
    registry = a_registry("a")
    for started_at, epoch in ((100.0, 0), (100.0, 0), (200.0, 1), (100.0, 1), (200.0, 1)):
        registry.record_scrape("a", a_report(started_at=started_at))
        assert [endpoint.epoch for endpoint in registry.endpoints(POOL)] == [epoch], started_at


def test_a_counter_that_goes_down_is_a_restart() -> None:
    registry = a_registry("a")
    for tokens, epoch in ((5.0, 0), (9.0, 0), (0.0, 1), (3.0, 1)):
        registry.record_scrape("a", a_report(tokens=tokens))
        assert [endpoint.epoch for endpoint in registry.endpoints(POOL)] == [epoch], tokens


def test_members_are_told_of_readiness_and_not_of_metrics() -> None:
    registry, told = a_registry("a"), list[int]()
    registry.on_membership_change(lambda: told.append(1))
    registry.record_scrape("a", a_report(waiting=1))
    registry.record_scrape("a", a_report(waiting=2))
    registry.record_nonsense("a", "HTTP 500")
    assert len(told) == 1
    for _ in range(3):
        registry.record_unreachable("a", "connection refused", 20.0)
    assert len(told) == 2
    (endpoint,) = registry.endpoints(POOL)
    assert (endpoint.ready, endpoint.not_ready_reason) == (False, "connection refused")


def test_an_endpoint_of_two_pools_has_one_state() -> None:
    registry = a_registry()
    registry.discover({POOL: a_pool("a"), "default/b": a_pool("a", name="default/b")})
    registry.record_scrape("a", a_report(waiting=4))
    for pool in (POOL, "default/b"):
        assert [one.metrics.waiting_requests for one in registry.endpoints(pool)] == [4]


def test_a_last_state_serves_until_discovery_finds_a_pool() -> None:
    registry = a_registry()
    registry.restore(InferencePool(name=POOL), [an_endpoint(1, waiting=7)])
    registry.discover({})
    assert [endpoint.metrics.waiting_requests for endpoint in registry.endpoints(POOL)] == [7]
    assert registry.pools()[POOL].restored
    registry.discover({POOL: a_pool("e2")})
    assert uids(registry) == ["e2"]
    assert not registry.pools()[POOL].restored


def test_a_last_state_lends_its_metrics_to_endpoints_that_were_not_scraped_yet() -> None:
    registry = a_registry("e1", "e2", "new")
    registry.record_scrape("e2", a_report(waiting=1))
    old = [replace(an_endpoint(index, waiting=7), epoch=3) for index in (1, 2, 9)]
    registry.restore(InferencePool(name=POOL, hash="old"), old)
    found = {one.uid: one for one in registry.endpoints(POOL)}
    assert found.keys() == {"e1", "e2", "new"}
    assert (found["e1"].metrics.waiting_requests, found["e1"].ready, found["e1"].epoch) == (
        7,
        True,
        3,
    )
    assert found["e2"].metrics.waiting_requests == 1
    assert registry.pools()[POOL].config.hash == "h"


def test_a_last_state_of_a_pool_that_discovery_does_not_know_is_left_out() -> None:
    registry = a_registry("a")
    registry.restore(InferencePool(name="default/old"), [an_endpoint(1)])
    assert registry.pools().keys() == {POOL}
