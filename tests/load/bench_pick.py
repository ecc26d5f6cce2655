"""How long a pick takes, stage by stage: `python tests/load/bench_pick.py [ENDPOINTS BLOCKS]`.

The index is warm, and the last picks' load stands. Each figure is the 10th percentile of wall time
in microseconds, which a busy machine disturbs least; compare the figures of one run, or of runs
that take turns.
"""

import statistics
import sys
import time
from itertools import pairwise
from random import Random

from pointsman_common.clock import SystemClock
from pointsman_common.contracts.scheduling_pb2 import PickRequest
from pointsman_common.in_flight import LeaseTable
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import (
    a_descriptor,
    a_pool_config,
    a_snapshot,
    an_endpoint,
    an_envelope,
)
from pointsman_scheduler.adapters.scheduling_rpc_server import answer
from pointsman_scheduler.core.candidate_sets import CandidateSets
from pointsman_scheduler.core.config import DEFAULT_POLICIES
from pointsman_scheduler.core.decision_receipt import draft_receipt
from pointsman_scheduler.core.picking import Picking, StateLimits
from pointsman_scheduler.core.receipt_messages import DatedDraft, ReceiptMessages
from pointsman_scheduler.plugins.catalogue import PLUGINS

STAGES = ("parse", "decide", "draft", "reserve", "answer", "receipt")
"""The receipt is written after the answer."""

OPEN = 8
"""Requests in flight."""


def bench(endpoints: int, blocks: int, config: str, *, picks: int = 1000) -> dict[str, float]:
    now, view, leases = SystemClock().monotonic(), PoolView(max_age_s=10.0), LeaseTable()
    view.apply_config(a_pool_config())
    some = [
        an_endpoint(index, waiting=index % 7, kv=index % 10 / 10, read_at=now)
        for index in range(endpoints)
    ]
    view.apply_snapshot(a_snapshot(some, now=now), now)
    picking = Picking(
        view,
        leases,
        PLUGINS,
        config,
        rng=Random(1),
        replica="bench",
        limits=StateLimits(fresh_s=3600.0),
    )
    messages = _questions(max(1, min(64, endpoints // 4)), blocks)
    times: list[list[float]] = []
    receipts = ReceiptMessages(CandidateSets())
    for number in range(picks + len(messages)):
        at = [time.perf_counter()]
        question = PickRequest.FromString(messages[number % len(messages)])
        at.append(time.perf_counter())
        pick = picking.pick(question.descriptor, f"lease-{number}", now)
        at.append(time.perf_counter())
        draft = draft_receipt(pick, 0.0)
        at.append(time.perf_counter())
        picking.reserve(pick, now)
        at.append(time.perf_counter())
        answer(pick, scores=False, receipt=True)
        at.append(time.perf_counter())
        receipts.write([DatedDraft(draft, 0.0)], envelope=an_envelope(), now=now)
        at.append(time.perf_counter())
        leases.serve(f"lease-{number - OPEN // 2}")
        leases.finish(f"lease-{number - OPEN}")
        if number >= len(messages):  # warm
            times.append([after - before for before, after in pairwise(at)])
    each = dict(zip(STAGES, zip(*times, strict=True), strict=True))
    figures = {stage: _tenth(values) for stage, values in each.items()}
    figures["to the answer"] = _tenth([sum(stages[:-1]) for stages in times])
    return figures


def _questions(prompts: int, blocks: int) -> list[bytes]:
    rng = Random(2)
    return [
        PickRequest(
            descriptor=a_descriptor(
                prompt_tokens=blocks * 64,
                block_hashes=[rng.getrandbits(64) for _ in range(blocks)],
            )
        ).SerializeToString()
        for _ in range(prompts)
    ]


def _tenth(values: "list[float] | tuple[float, ...]") -> float:
    return statistics.quantiles(values, n=10)[0] * 1e6


def main() -> None:
    sizes = [(8, 16), (8, 256), (100, 256), (1_000, 256), (1_000, 1_024), (10_000, 256)]
    if len(sys.argv) > 1:
        sizes = [(int(sys.argv[1]), int(sys.argv[2]))]
    for name, config in DEFAULT_POLICIES.items():
        for endpoints, blocks in sizes:
            figures = bench(endpoints, blocks, config, picks=300 if endpoints > 1000 else 1000)
            shown = "  ".join(f"{stage} {value:.1f}" for stage, value in figures.items())
            sys.stdout.write(f"{name} {endpoints} endpoints {blocks} blocks: {shown}\n")


if __name__ == "__main__":
    main()
