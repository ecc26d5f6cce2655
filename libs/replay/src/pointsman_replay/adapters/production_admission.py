"""The production flow controller before simulated engines: who waits how long, replicas included.

A request comes to one of the replicas at random, waits in its flow's queue, and when it is let go
a policy places it. The replicas hear of the pool's load and of each other over a bus that takes
time. Tenants of the trace are the flows.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from random import Random

import msgspec
import numpy as np

from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_common.endpoint_picker_config import parse_endpoint_picker_config
from pointsman_flow_controller.core.flow_policy import FlowPolicy
from pointsman_flow_controller.core.flow_policy_reader import read_flow_policy
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.queue_outcome import QueueExit, QueueOutcome
from pointsman_flow_controller.plugins.catalogue import catalogue
from pointsman_flow_controller.testing.replica_group import ReplicaGroup
from pointsman_replay.core.policies.policy import BuildPolicy, Surroundings
from pointsman_replay.core.timeline import Timeline
from pointsman_replay.core.trace import Trace, TraceRequest
from pointsman_replay.core.virtual_pool import ScrapeTiming, VirtualPool
from pointsman_simulator.core.engine_events import Finished, FirstToken
from pointsman_simulator.core.engine_profile import EngineProfile

PICK_S = 0.003
"""From the dispatch until the edge has told of the pick."""

METRICS_EVERY_S = 0.05


class TenantMeasures(msgspec.Struct, frozen=True):
    requests: int
    """Let go."""
    refused: int
    wait_p50_s: float
    """From arrival to dispatch."""
    wait_p99_s: float
    tokens: int
    """Prompt tokens that were not cached, and output tokens twice: as fairness counts them."""


class AdmissionResult(msgspec.Struct, frozen=True):
    tenants: Mapping[str, TenantMeasures]
    span_s: float
    """Until the last answer ended."""


class ProductionAdmission:
    """Use once: `run`.

    Raises:
        SettingsError: the EndpointPickerConfig cannot be used.
    """

    def __init__(
        self,
        trace: Trace,
        profile: EngineProfile,
        engines: int,
        build_picker: BuildPolicy,
        config: str,
        *,
        replicas: int = 1,
        seed: str = "1",
        bus_delay_s: float = 0.002,
    ) -> None:
        self._requests, self._timeline = trace.requests, Timeline()
        self._rng = Random(f"{seed}/admission")
        self._left = len(trace.requests)
        self._rows: dict[int, int] = {}
        self._waits: dict[str, list[float]] = defaultdict(list)
        self._refused: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._pool = VirtualPool(
            self._timeline,
            profile,
            engines,
            block_tokens=trace.block_tokens,
            scrapes=ScrapeTiming(),
            on_first_token=self._first_token,
            on_finished=self._finished,
        )
        self._pool.scrape()
        self._picker = build_picker(
            Surroundings(self._timeline, self._pool, trace.block_tokens, Random(seed))
        )
        self._group = ReplicaGroup(
            replicas,
            policy_maker(config),
            self._endpoints(),
            schedule=self._timeline.at,
            now=lambda: self._timeline.now,
            on_exit=self._exit,
            bus_delay_s=bus_delay_s,
        )

    def run(self) -> AdmissionResult:
        """Let all requests arrive, and all answers end."""
        timeline = self._timeline
        timeline.at(METRICS_EVERY_S, self._read_metrics)
        for number, request in enumerate(self._requests):
            timeline.at(request.at_s, self._arrive, number, request)
        try:
            while self._left and timeline.step():
                pass
        finally:
            self._picker.close()
        return AdmissionResult(
            {name: self._measures(name) for name in sorted(self._waits | self._refused)},
            timeline.now,
        )

    def _measures(self, tenant: str) -> TenantMeasures:
        waits = self._waits.get(tenant) or [0.0]
        p50, p99 = np.percentile(waits, (50, 99)).tolist()
        return TenantMeasures(
            len(self._waits.get(tenant, ())),
            self._refused[tenant],
            p50,
            p99,
            self._tokens[tenant],
        )

    def _arrive(self, number: int, request: TraceRequest) -> None:
        queued = QueuedRequest(
            str(number),
            fairness_id=request.tenant or "default-flow",
            prompt_tokens=request.prompt_tokens,
            body_bytes=4 * request.prompt_tokens,
            arrived_at=self._timeline.now,
        )
        self._group.admit(self._rng.randrange(len(self._group.alive)), queued)

    def _exit(self, replica: int, queued: QueuedRequest, way_out: QueueExit) -> None:
        del replica
        number, now = int(queued.lease_id), self._timeline.now
        request = self._requests[number]
        row = None
        if way_out.outcome is QueueOutcome.DISPATCHED:
            row = self._picker.pick(number, request)
        if row is None:
            self._left -= 1
            self._refused[queued.fairness_id] += 1
            return
        self._waits[queued.fairness_id].append(now - queued.arrived_at)
        self._rows[number] = row
        self._timeline.at(now + PICK_S, self._picked, number, request)
        self._timeline.at(now, self._pool.submit, row, number, request)

    def _picked(self, number: int, request: TraceRequest) -> None:
        tokens = request.prompt_tokens
        self._group.picked(str(number), tokens=tokens, prefill_tokens=tokens)

    def _first_token(self, number: int, event: FirstToken) -> None:
        del event
        self._picker.first_token(number, self._requests[number], self._rows[number])
        self._group.serving(str(number))

    def _finished(self, number: int, event: Finished) -> None:
        self._left -= 1
        request = self._requests[number]
        self._picker.finished(number, request, self._rows[number])
        cost = event.prompt_tokens - event.cached_tokens + 2 * event.output_tokens
        self._tokens[request.tenant or "default-flow"] += cost
        self._group.finished(
            str(number),
            prompt_tokens=event.prompt_tokens,
            cached_tokens=event.cached_tokens,
            output_tokens=event.output_tokens,
            duration_s=event.at - event.arrived_at,
        )

    def _read_metrics(self) -> None:
        endpoints, now = self._endpoints(), self._timeline.now
        for controller in self._group.controllers:
            controller.observe(endpoints, now)
            controller.dispatch(now)
        self._timeline.at(now + METRICS_EVERY_S, self._read_metrics)

    def _endpoints(self) -> list[Endpoint]:
        found: list[Endpoint] = []
        for row in range(len(self._pool.engines)):
            report = self._pool.report(row)
            metrics = EndpointMetrics(
                waiting_requests=report.stats.waiting,
                running_requests=report.stats.running,
                kv_cache_utilization=report.stats.kv_usage,
                read_at=report.scraped_at,
            )
            found.append(Endpoint(str(row), f"default/engine-{row}", "", metrics=metrics))
        return found


def policy_maker(config: str) -> Callable[[], FlowPolicy]:
    """What makes a replica's policy of an EndpointPickerConfig."""
    document = parse_endpoint_picker_config(config)
    types = catalogue(staleness_floor_s=2.0)
    return lambda: read_flow_policy(document, types, mode="on")
