"""What admission costs: `python tests/load/bench_admit.py [--queued 10000 --flows 1000] [--json]`.

CPU time per request, in microseconds: one that goes at once, through the whole hook (bytes in,
bytes out), and one that is queued and then let go, in the core, with many others waiting.
Budget: 15 µs to admit and 15 to dispatch at 100,000 queued over 10,000 flows.
"""

import argparse
import json
import sys
from collections.abc import Callable
from time import process_time
from typing import Any

from pointsman_common.clock import SystemClock
from pointsman_common.contracts.flow_pb2 import AdmitRequest
from pointsman_common.in_flight import LeaseTable
from pointsman_common.inference_pool import InferencePool
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import (
    POOL,
    a_descriptor,
    a_pool_config,
    a_snapshot,
    an_endpoint,
)
from pointsman_flow_controller.adapters.dispatch_worker import DispatchWorker
from pointsman_flow_controller.adapters.dispatch_workers import DispatchWorkers
from pointsman_flow_controller.adapters.flow_rpc_server import AdmitHook
from pointsman_flow_controller.app import policy_reader
from pointsman_flow_controller.core.flow_controller import FlowController
from pointsman_flow_controller.core.flow_policy import BandPolicy, FlowPolicy
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.metrics import Metrics
from pointsman_flow_controller.plugins.fairness.global_strict import GlobalStrictFairnessPolicy
from pointsman_flow_controller.plugins.fairness.round_robin import RoundRobinFairnessPolicy
from pointsman_flow_controller.plugins.fairness.virtual_token_counter import (
    WeightedTokenFairnessPolicy,
)
from pointsman_flow_controller.plugins.ordering.first_come import FirstComeOrderingPolicy
from pointsman_flow_controller.plugins.saturation.concurrency import ConcurrencyDetector
from pointsman_flow_controller.plugins.saturation.utilization import UtilizationDetector
from pointsman_flow_controller.plugins.usage_limits.static_limit import StaticUsageLimitPolicy
from pointsman_flow_controller.settings import FlowControllerSettings


def queueing(queued: int, flows: int, fairness: Callable[[], Any]) -> dict[str, float]:
    """Fill the queues of a full pool of 1,000 endpoints, then let all go at once."""
    band = BandPolicy(
        fairness, FirstComeOrderingPolicy(), max_requests=queued, max_bytes=queued * 1_000
    )
    policy = FlowPolicy(
        make_detector=lambda: UtilizationDetector(
            queue_depth_threshold=5, kv_cache_threshold=0.8, staleness_s=1e9
        ),
        make_usage_limit=StaticUsageLimitPolicy,
        band=band,
        negative_band=band,
    )
    controller = FlowController(
        POOL,
        policy,
        LeaseTable(),
        on_exit=lambda *_: None,
        make_blind_detector=lambda: ConcurrencyDetector(max_requests=100, max_tokens=1),
        now=0.0,
    )
    full = [an_endpoint(index, waiting=50, read_at=0.0) for index in range(1_000)]
    controller.observe(full, 0.0)
    requests = [
        QueuedRequest(f"l{index}", fairness_id=f"flow-{index % flows}", body_bytes=400, ttl_s=60.0)
        for index in range(queued)
    ]
    started = process_time()
    for request in requests:
        controller.admit(request, 0.0)
    admitted = process_time()
    assert controller.registry.requests == queued
    room = [an_endpoint(index, waiting=0, read_at=0.0) for index in range(queued)]
    controller.observe(room, 0.001)
    observed = process_time()
    controller.dispatch(0.002)
    ended = process_time()
    assert controller.registry.requests == 0
    return {
        "admit_us": (admitted - started) / queued * 1e6,
        "dispatch_us": (ended - observed) / queued * 1e6,
    }


def at_once(rounds: int) -> float:
    """The whole hook of a pool with room."""
    clock, view, leases, metrics = SystemClock(), PoolView(max_age_s=1e9), LeaseTable(), Metrics()
    settings = FlowControllerSettings(queue_depth_threshold=1e9)
    read_policy = policy_reader(settings, "")

    def make_worker(pool: str, set_timer: Callable[[float], None]) -> DispatchWorker:
        return DispatchWorker(
            pool,
            clock=clock,
            view=view,
            leases=leases,
            metrics=metrics,
            read_policy=read_policy,
            make_blind_detector=lambda: ConcurrencyDetector(max_requests=10**9, max_tokens=1),
            blind_after_s=1e9,
            set_timer=set_timer,
        )

    hook = AdmitHook(DispatchWorkers(clock, view, leases, make_worker), clock)
    now = clock.monotonic()
    view.apply_config(a_pool_config(InferencePool(name=POOL)))
    view.apply_snapshot(a_snapshot([an_endpoint(1, read_at=now)], now=now), now)
    messages = [
        AdmitRequest(
            lease_id=f"l{index}", descriptor=a_descriptor(block_hashes=range(64))
        ).SerializeToString()
        for index in range(rounds)
    ]
    started = process_time()
    for message in messages:
        hook(message)
    return (process_time() - started) / rounds * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--flows", type=int, default=1_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found: dict[str, Any] = {"at_once_us": min(at_once(2_000) for _ in range(3))}
    for name, fairness in (
        ("round_robin", RoundRobinFairnessPolicy),
        ("global_strict", GlobalStrictFairnessPolicy),
        ("weighted_token", WeightedTokenFairnessPolicy),
    ):
        found[name] = queueing(asked.queued, asked.flows, fairness)
    if asked.json:
        sys.stdout.write(f"{json.dumps(found)}\n")
        return
    sys.stdout.write(f"goes at once, whole hook: {found['at_once_us']:.1f} µs\n")
    for name in ("round_robin", "global_strict", "weighted_token"):
        cost = found[name]
        sys.stdout.write(
            f"{name}, {asked.queued} queued over {asked.flows} flows: "
            f"admit {cost['admit_us']:.1f} µs, dispatch {cost['dispatch_us']:.1f} µs\n"
        )


if __name__ == "__main__":
    main()
