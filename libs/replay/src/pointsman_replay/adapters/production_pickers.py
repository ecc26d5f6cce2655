"""The production scheduler as a policy: its core, its leases and its index, over a virtual bus.

Each picker is what a replica of the scheduler is, without its sockets. It knows the pool from
messages of a datalayer, and its peers' picks, first tokens and ends from the edge's events.
"""

from random import Random

import msgspec

from pointsman_common.contract_codec import encode_pool_config, pack_block_hashes
from pointsman_common.contracts import pool_pb2
from pointsman_common.contracts.layer_pb2 import Envelope
from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.in_flight import LeaseTable
from pointsman_common.inference_pool import InferencePool
from pointsman_common.lease_subscriber import LeaseSubscriber
from pointsman_common.pool_view import PoolView
from pointsman_replay.adapters.virtual_bus import BusTiming, VirtualBus
from pointsman_replay.adapters.virtual_edge import VirtualEdge
from pointsman_replay.adapters.virtual_loop import EPOCH_S, TimelineClock, VirtualLoop
from pointsman_replay.core.policies.policy import Surroundings
from pointsman_replay.core.trace import TraceRequest
from pointsman_replay.core.virtual_pool import Report
from pointsman_scheduler.core.picking import Pick, Picking
from pointsman_scheduler.core.scheduler import Decision
from pointsman_scheduler.plugins.catalogue import PLUGINS

POOL = "default/replay"
MODEL = "model"
DATALAYER = "datalayer/replay"


class PickerOptions(msgspec.Struct, frozen=True):
    pickers: int = 1
    """Replicas of the scheduler; each request goes to one at random."""
    bus: BusTiming = BusTiming()


class ProductionPickers:
    """A policy. `config` is the text of an EndpointPickerConfig.

    Raises:
        SettingsError: it cannot be used.
    """

    def __init__(self, surroundings: Surroundings, config: str, options: PickerOptions) -> None:
        self.timeline, self._rng = surroundings.timeline, surroundings.rng
        self._block_tokens = surroundings.block_tokens
        surroundings.pool.scrape()
        self._loop = VirtualLoop()
        clock = TimelineClock(surroundings.timeline, self._loop)
        bus = VirtualBus(
            surroundings.timeline, self._loop, options.bus, Random(self._rng.getrandbits(64))
        )
        self.pickers = [
            Picker(f"scheduler-{index}", surroundings, config, clock=clock, bus=bus)
            for index in range(options.pickers)
        ]
        for picker in self.pickers:
            self._loop.start(picker.subscriber.run())
        self._edge = VirtualEdge(bus, clock, POOL)
        self._loop.start(self._edge.run())

    def pick(self, number: int, request: TraceRequest) -> int | None:
        several = len(self.pickers) > 1
        picker = self._rng.choice(self.pickers) if several else self.pickers[0]
        pick = picker.pick(self.describe(number, request), str(number), self.timeline.now)
        if not isinstance(pick.outcome, Decision):
            return None
        self._edge.open(pick, pick.outcome, request)
        return int(pick.outcome.endpoints[0].uid)

    def first_token(self, number: int, request: TraceRequest, row: int) -> None:
        del request, row
        self._edge.first_token(str(number))

    def finished(self, number: int, request: TraceRequest, row: int) -> None:
        del row
        self._edge.finished(str(number), output_tokens=request.output_tokens)

    def close(self) -> None:
        self._loop.shut_down()

    def describe(self, number: int, request: TraceRequest) -> RequestDescriptor:
        """What a router would have made of the request."""
        return RequestDescriptor(
            request_id=str(number),
            pool=POOL,
            model=MODEL,
            target_model=MODEL,
            fairness_id=request.tenant or "default-flow",
            prompt_tokens=request.prompt_tokens,
            prompt_block_hashes=pack_block_hashes(request.block_hashes),
            block_tokens=self._block_tokens,
            stream=True,
            api="openai-completions",
            arrived_at=EPOCH_S + self.timeline.now,
        )


class Picker:
    """One replica of the scheduler."""

    def __init__(
        self,
        name: str,
        surroundings: Surroundings,
        config: str,
        *,
        clock: TimelineClock,
        bus: VirtualBus,
    ) -> None:
        self._pool = surroundings.pool
        self.view, self.leases = PoolView(max_age_s=10.0), LeaseTable()
        self.picking = Picking(
            self.view,
            self.leases,
            PLUGINS,
            config,
            rng=Random(surroundings.rng.getrandbits(64)),
            replica=name,
        )
        self.subscriber = LeaseSubscriber(
            bus,
            clock,
            self.leases,
            EnvelopeStamp(f"scheduler/{name}", clock),
            on_picked=self.picking.learn_pick,
            on_serving=self.picking.learn_first_token,
            on_finished=self.picking.learn_finish,
        )
        self._sequence = 0
        self._uids = [str(row) for row in range(surroundings.replicas)]
        self._seen = [self._pool.report(row) for row in range(surroundings.replicas)]
        self._introduce(surroundings)

    def pick(self, descriptor: RequestDescriptor, lease_id: str, now: float) -> Pick:
        """Decide and reserve, as the service's hook does."""
        self.read_metrics(now)
        pick = self.picking.pick(descriptor, lease_id, now)
        self.picking.reserve(pick, now)
        return pick

    def _introduce(self, surroundings: Surroundings) -> None:
        config = encode_pool_config(
            InferencePool(
                name=POOL, hash="replay", prefix_block_tokens=surroundings.block_tokens or 64
            )
        )
        config.envelope.CopyFrom(self._next_envelope())
        self.view.apply_config(config)
        now = surroundings.timeline.now
        snapshot = pool_pb2.PoolSnapshot(
            envelope=self._next_envelope(),
            pool=POOL,
            endpoints=[
                pool_pb2.Endpoint(
                    uid=self._uids[row],
                    name=f"default/engine-{row}-rank-0",
                    address=f"10.0.{row // 250}.{row % 250 + 1}:8000",
                    ready=True,
                    engine="vllm",
                    metrics=self._metrics(report, now),
                )
                for row, report in enumerate(self._seen)
            ],
        )
        self.view.apply_snapshot(snapshot, now)

    def read_metrics(self, now: float) -> None:
        """Take over what was scraped since the last pick; in between nobody looks."""
        updates: list[pool_pb2.MetricsUpdate] = []
        for row, seen in enumerate(self._seen):
            report = self._pool.report(row)
            if report is not seen:
                self._seen[row] = report
                metrics = self._metrics(report, now)
                updates.append(pool_pb2.MetricsUpdate(uid=self._uids[row], metrics=metrics))
        if updates:
            delta = pool_pb2.PoolDelta(envelope=self._next_envelope(), pool=POOL, metrics=updates)
            self.view.apply_delta(delta, now)

    def _metrics(self, report: Report, now: float) -> pool_pb2.EndpointMetrics:
        profile, stats = self._pool.profile, report.stats
        return pool_pb2.EndpointMetrics(
            waiting_requests=stats.waiting,
            running_requests=stats.running,
            kv_cache_utilization=stats.kv_usage,
            block_size_tokens=profile.block_size,
            kv_cache_blocks=profile.total_blocks,
            age_ms=round((now - report.scraped_at) * 1e3),
        )

    def _next_envelope(self) -> Envelope:
        self._sequence += 1
        return Envelope(publisher=DATALAYER, epoch=1, sequence=self._sequence, sent_at=EPOCH_S)
