"""What the scheduler answers to a pick, over all pools, and what it keeps to answer it.

The pick reserves the load at once, before anything is measured, so that a burst spreads. Everything
here belongs to one task: the service's event loop.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from pointsman_common.contracts.events_pb2 import (
    KvEvents,
    RequestFinished,
    RequestPicked,
    RequestServing,
)
from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.endpoint import Endpoint
from pointsman_common.in_flight import Lease, LeaseTable
from pointsman_common.pool_view import PoolView
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.config import Catalogue
from pointsman_scheduler.core.endpoint_speed import ExpectedTtft
from pointsman_scheduler.core.output_lengths import OutputLengths
from pointsman_scheduler.core.pool_scheduling import PoolScheduling
from pointsman_scheduler.core.scheduler import Decision, Refusal, Refused
from pointsman_scheduler.core.scheduling_request import SchedulingRequest, read_block_hashes
from pointsman_scheduler.core.silent_edges import SilentEdges

SEED_BITS = 64

ROUTER_CHAIN = "router"
"""KvEvents.chain of the hashes that descriptors carry."""


@dataclass(frozen=True)
class StateLimits:
    """The first three: see settings.py."""

    fresh_s: float = 1.0
    half_life_s: float = 5.0
    max_blocks: int = 4_000_000
    own_picks: int = 65_536
    """Picks of this replica that are known again when the edge tells of them."""


DEFAULT_LIMITS = StateLimits()

_NOTHING = ExpectedTtft(0.0, 0.0)
_OK = 200


@dataclass(slots=True)
class Pick:
    """A pick that was answered, with all that its receipt may tell."""

    decision_id: str
    lease_id: str
    descriptor: RequestDescriptor
    outcome: Decision | Refused
    request: SchedulingRequest | None = None
    """`None`: the pool is not known."""
    candidates: Candidates | None = None
    memories: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """What plugins remembered of earlier picks and may have counted, by plugin."""
    config_hash: str = ""
    config_text: str = ""
    state_publisher: str = ""
    state_sequence: int = 0
    state_age_s: float = float("inf")
    """Infinite: nothing was ever heard."""

    cached_blocks: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the primary likely holds."""
    prefill_tokens: int = 0
    """Prompt tokens that it must compute."""
    expected_output_tokens: int = 0
    predicted_ttft_s: float = 0.0
    """0: not predicted."""
    predicted_cost_s: float = 0.0
    expected: ExpectedTtft | None = None
    """The time to first token in its parts; `None`: not predicted."""

    @property
    def seed(self) -> int:
        return self.request.seed if self.request else 0


class Picking:
    """`replica` heads the decision ids."""

    def __init__(
        self,
        view: PoolView,
        leases: LeaseTable,
        catalogue: Catalogue,
        fallback: str,
        *,
        rng: Random,
        replica: str,
        limits: StateLimits = DEFAULT_LIMITS,
    ) -> None:
        self._view, self._leases = view, leases
        self._catalogue, self._fallback, self._limits = catalogue, fallback, limits
        self._rng, self._replica = rng, replica
        self._count = 0
        self._own: OrderedDict[str, str] = OrderedDict()
        """Uids picked, by lease; until the edge tells of the lease."""
        self._awaited: OrderedDict[str, tuple[str, str, ExpectedTtft]] = OrderedDict()
        """Pool, uid and what was expected, by lease whose first token will tell of it."""
        self.silent_edges = SilentEdges(leases=limits.own_picks)
        self.pools: dict[str, PoolScheduling] = {}
        self.output_lengths = OutputLengths()
        leases.on_load(self._note_load)
        view.on_change(self._note_change)

    def pool(self, name: str) -> PoolScheduling | None:
        """The pool's state; `None` where the view does not know the pool."""
        known = self.pools.get(name)
        if known is None and self._view.get(name) is not None:
            known = self.pools[name] = PoolScheduling(
                self._leases,
                self._catalogue,
                self._fallback,
                fresh_s=self._limits.fresh_s,
                half_life_s=self._limits.half_life_s,
                max_blocks=self._limits.max_blocks,
            )
        return known

    def known_pools(self) -> tuple[str, ...]:
        """Pools that the view knows."""
        return tuple(self._view.pools())

    def ready_pool(self, name: str) -> PoolScheduling | None:
        """The pool's state, brought up to date; `None` where the view does not know the pool."""
        record, pool = self._view.get(name), self.pool(name)
        if record is not None and pool is not None:
            pool.refresh(record)
        return pool

    def apply_config(self, name: str) -> None:
        """Take over the configuration that the pool publishes, if it changed.

        Raises:
            SettingsError: it cannot be used; the old one stays in force.
        """
        record, pool = self._view.get(name), self.pool(name)
        if record is not None and pool is not None:
            pool.apply_config(record.config.endpoint_picker_config)

    def pick(
        self,
        descriptor: RequestDescriptor,
        lease_id: str,
        now: float,
        *,
        given: Sequence[Endpoint] = (),
        goes_there: bool = True,
    ) -> Pick:
        """Decide where a request goes. The load is not yet reserved; see `reserve`.

        `given` endpoints are used in place of the view's. `now` is in monotonic seconds. Not
        `goes_there`: only the answer is wanted, and nothing is remembered of it.
        """
        self._count += 1
        self.pass_time(now)
        decision_id = f"{self._replica}-{self._count:x}"
        record, pool = self._view.get(descriptor.pool), self.pool(descriptor.pool)
        if record is None or pool is None:
            return Pick(decision_id, lease_id, descriptor, Refused(Refusal.NO_ENDPOINTS))
        pool.refresh(record)
        request = pool.request(
            descriptor,
            mean_output_tokens=self.output_lengths.mean(descriptor.target_model),
            seed=self._rng.getrandbits(SEED_BITS),
        )
        subset = frozenset(descriptor.subset.endpoints) if descriptor.HasField("subset") else None
        candidates = pool.candidates(request, now, subset=subset, given=given or None)
        refusal = Refusal.NO_ENDPOINTS
        if request.cached_only and len(candidates):
            candidates = candidates.select(candidates.cached_blocks > 0)
            refusal = Refusal.NOT_CACHED
        outcome: Decision | Refused = Refused(refusal)
        memories: Mapping[str, bytes] = {}
        if len(candidates):
            memories = pool.config.scheduler.memories(request, candidates)
            outcome = pool.config.scheduler.schedule(request, candidates, tell=goes_there)
        pick = Pick(
            decision_id,
            lease_id,
            descriptor,
            outcome,
            request=request,
            candidates=candidates,
            memories=memories,
            config_hash=pool.config.hash,
            config_text=pool.config.text,
            state_publisher=record.publisher,
            state_sequence=record.sequence,
            state_age_s=self._view.age_s(descriptor.pool, now),
        )
        if isinstance(outcome, Decision):
            _measure(pick, request, outcome)
        return pick

    def reserve(self, pick: Pick, now: float) -> None:
        """Count the picked load, and learn where the prompt's blocks will be."""
        if pick.request is None or isinstance(pick.outcome, Refused):
            return
        primary, descriptor = pick.outcome.endpoints[0], pick.descriptor
        prefill = pick.outcome.prefill
        if pick.lease_id:
            self._own[pick.lease_id] = primary.uid
            if len(self._own) > self._limits.own_picks:
                self._own.popitem(last=False)
            if pick.expected is not None:
                self.await_first_token(pick.lease_id, descriptor.pool, primary.uid, pick.expected)
            self._leases.reserve(
                Lease(
                    lease_id=pick.lease_id,
                    edge="",
                    pool=descriptor.pool,
                    endpoint=primary.uid or primary.address,
                    prompt_tokens=descriptor.prompt_tokens,
                    prefill_tokens=pick.prefill_tokens,
                    expected_output_tokens=pick.expected_output_tokens,
                    model=descriptor.target_model,
                    fairness_id=descriptor.fairness_id,
                    priority=descriptor.priority,
                    prefill_endpoint=prefill.uid or prefill.address if prefill else "",
                ),
                now,
            )
        index, hashes = self.pools[descriptor.pool].index, pick.request.block_hashes
        index.insert(primary.uid, hashes)
        if prefill is not None:
            index.insert(prefill.uid, hashes)

    def learn_pick(self, event: RequestPicked) -> None:
        """A peer, an edge by itself, or this replica sent a prompt to an endpoint. To be called
        once the lease is open."""
        lease = event.lease
        record, pool = self._view.get(lease.pool), self.pool(lease.pool)
        if record is None or pool is None:
            return
        known = self._leases.get(lease.lease_id)
        if known is not None and self.silent_edges.is_silent(known.edge):
            prefill_s = pool.prefill_s(known.endpoint, known.prefill_tokens)
            self.silent_edges.picked(known.endpoint, known.lease_id, prefill_s, known.opened_at)
        if self._own.pop(lease.lease_id, None) == lease.endpoint_uid:
            return  # its blocks were learnt at the pick
        if not event.prompt_block_hashes:
            return
        if pool.index.slot_of(lease.endpoint_uid) is None:
            pool.refresh(record)
        room = pool.config.prefix.max_prefix_blocks_to_match
        blocks = len(event.prompt_block_hashes) // 8
        if room:
            blocks = max(0, min(blocks, room - event.first_block))
        hashes = read_block_hashes(event.prompt_block_hashes, blocks)
        pool.index.insert(lease.endpoint_uid, hashes)

    def await_first_token(self, lease_id: str, pool: str, uid: str, expected: ExpectedTtft) -> None:
        """An endpoint was given a request, from which so much was expected."""
        self._awaited[lease_id] = pool, uid, expected
        if len(self._awaited) > self._limits.own_picks:
            self._awaited.popitem(last=False)

    def learn_kv(self, event: KvEvents) -> int:
        """An engine told what its cache gained and lost; returns the blocks that were of use.

        Hashes of another chain than the router's, or of other blocks than the pool's, match no
        prompt.
        """
        record, pool = self._view.get(event.pool), self.pool(event.pool)
        if record is None or pool is None or event.chain != ROUTER_CHAIN:
            return 0
        if event.block_tokens and event.block_tokens != record.config.prefix_block_tokens:
            return 0
        uid, index = event.endpoint_uid, pool.index
        if index.slot_of(uid) is None:
            pool.refresh(record)
        if event.cleared:
            index.clear(uid)
        if event.stored:
            index.insert(uid, tuple(block.hash for block in event.stored))
        index.remove(uid, event.removed)
        return len(event.stored) + len(event.removed)

    def learn_first_token(self, event: RequestServing) -> None:
        """A first token is out: how long it took says how fast the endpoint is."""
        lease = self._leases.get(event.lease_id)
        if lease is not None:
            self.silent_edges.told(lease.edge)
        name, uid, expected = self._awaited.pop(event.lease_id, ("", "", _NOTHING))
        pool = self.pools.get(name)
        # From another endpoint than the one predicted for, or not measured, it says nothing.
        if (
            pool is not None
            and event.ttft_ms
            and not event.moved
            and event.endpoint_uid in ("", uid)
        ):
            pool.learn_first_token(uid, expected, event.ttft_ms / 1e3)

    def learn_finish(self, event: RequestFinished) -> None:
        """An answer ended; its length tells what the next ones may be. To be called while the lease
        is still there."""
        if event.HasField("output_tokens") and event.output_tokens and event.model:
            self.output_lengths.note(event.model, event.output_tokens)
        self._awaited.pop(event.lease_id, None)
        lease = self._leases.get(event.lease_id)
        if lease is not None:
            # An edge that tells of first tokens knows the time of this one too.
            well = event.http_status == _OK and not event.HasField("ttft_ms")
            self.silent_edges.ended(lease.edge, lease.lease_id, serving=lease.serving, well=well)

    def pass_time(self, now: float) -> None:
        """Take the first tokens for come that are due by the clock."""
        for lease_id in self.silent_edges.due(now):
            self._leases.serve(lease_id)

    def _note_change(self, pool: str) -> None:
        if self._view.get(pool) is None:
            self.pools.pop(pool, None)

    def _note_load(self, pool: str, endpoint: str) -> None:
        known = self.pools.get(pool)
        if known is not None:
            known.table.note_load(endpoint)


def _measure(pick: Pick, request: SchedulingRequest, decision: Decision) -> None:
    """Work out what the placement means in tokens and seconds. Where another endpoint computes the
    prompt, that one counts."""
    prompt = request.prompt_tokens
    run = decision.runs[decision.prefill_profile or decision.profile]
    pick.cached_blocks = run.cached_blocks
    # The last token is always computed: its logits give the first output token.
    pick.cached_tokens = min(pick.cached_blocks * request.block_tokens, max(prompt - 1, 0))
    pick.prefill_tokens = prompt - pick.cached_tokens
    lengths = [request.max_output_tokens, round(request.mean_output_tokens or 0)]
    pick.expected_output_tokens = min((one for one in lengths if one), default=0)
    for step in run.scores:
        if step.prediction is not None:
            pick.predicted_ttft_s = float(step.prediction.ttft_s[run.best])
            pick.predicted_cost_s = float(step.prediction.cost_s[run.best])
            # Where others wait, or another computes the prompt, the time tells of more than this.
            alone = not pick.candidates.prefilling[decision.row] if pick.candidates else False
            if alone and not decision.prefill_profile:
                pick.expected = ExpectedTtft(
                    float(step.prediction.prefill_s[run.best]),
                    float(step.prediction.overhead_s[run.best]),
                )
