"""How long a pick takes, by endpoints and prompt blocks: `python tests/bench_pick.py`."""

import statistics
import sys
import time
from random import Random

from pointsman_common.contracts.scheduling_pb2 import PickRequest
from pointsman_common.in_flight import LeaseTable
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import a_descriptor, a_pool_config, a_snapshot, an_endpoint
from pointsman_scheduler.core.config import DEFAULT_POLICIES
from pointsman_scheduler.core.decision_receipt import build_receipt, draft_receipt
from pointsman_scheduler.core.picking import Picking
from pointsman_scheduler.plugins.catalogue import PLUGINS

ROUNDS = 400
NOW = 1_000.0


def bench(endpoints: int, blocks: int, config: str, *, picks: int = ROUNDS) -> dict[str, float]:
    """Median CPU microseconds of each stage: the decision, the reservation, the receipt."""
    view, leases = PoolView(max_age_s=10.0), LeaseTable()
    view.apply_config(a_pool_config())
    some = [an_endpoint(index, waiting=index % 7, kv=index % 10 / 10) for index in range(endpoints)]
    view.apply_snapshot(a_snapshot(some), NOW)
    picking = Picking(view, leases, PLUGINS, config, rng=Random(1), replica="bench")
    rng = Random(2)
    prompts = [
        [rng.getrandbits(64) for _ in range(blocks)] for _ in range(max(1, min(64, endpoints // 4)))
    ]
    asked = [
        PickRequest(
            descriptor=a_descriptor(prompt_tokens=blocks * 64, block_hashes=prompt)
        ).SerializeToString()
        for prompt in prompts
    ]
    times: dict[str, list[float]] = {"decide": [], "reserve": [], "receipt": [], "draft": []}
    for number in range(picks + len(asked)):
        message = asked[number % len(asked)]
        began = time.process_time()
        question = PickRequest.FromString(message)
        pick = picking.pick(question.descriptor, f"lease-{number}", NOW)
        decided = time.process_time()
        draft = draft_receipt(pick, 0.0)
        drafted = time.process_time()
        picking.reserve(pick, NOW)
        reserved = time.process_time()
        receipt = build_receipt(draft, envelope=a_pool_config().envelope, decided_at=0.0)
        receipt.SerializeToString()
        written = time.process_time()
        if number > 8:
            leases.finish(f"lease-{number - 8}")
        if number >= len(asked):  # warm
            times["decide"].append(decided - began)
            times["draft"].append(drafted - decided)
            times["reserve"].append(reserved - drafted)
            times["receipt"].append(written - reserved)
    return {stage: statistics.median(values) * 1e6 for stage, values in times.items()}


if __name__ == "__main__":
    for name, config in DEFAULT_POLICIES.items():
        for endpoints in (8, 100, 1_000, 10_000):
            for blocks in (16, 256, 1_024):
                result = bench(endpoints, blocks, config, picks=100 if endpoints > 1000 else ROUNDS)
                shown = "  ".join(f"{stage} {value:7.1f}" for stage, value in result.items())
                sys.stdout.write(
                    f"{name:9} {endpoints:6} endpoints {blocks:5} blocks  {shown} us\n"
                )
