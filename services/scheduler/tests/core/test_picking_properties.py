"""Whatever happens, in whatever order: no count goes wrong, and no pick leaves its subset."""

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_common.contract_codec import pack_block_hashes
from pointsman_common.contracts.events_pb2 import (
    KvBlock,
    KvEvents,
    RequestFinished,
    RequestPicked,
    RequestServing,
)
from pointsman_common.contracts.events_pb2 import Lease as LeaseMessage
from pointsman_common.in_flight import decode_lease
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_scheduler.core.config import DEFAULT_POLICIES
from pointsman_scheduler.core.picking import StateLimits
from pointsman_scheduler.core.scheduler import Decision
from pointsman_scheduler.testing import NOW, Desk

DISAGGREGATED = yaml.safe_dump(
    {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [
            {"type": "predicted-latency-cost-scorer"},
            {"type": "always-disagg-pd-decider"},
            {
                "type": "disagg-profile-handler",
                "parameters": {"deciders": {"prefill": "always-disagg-pd-decider"}},
            },
            {"type": "random-picker"},
        ],
        "schedulingProfiles": [
            {
                "name": name,
                "plugins": [
                    {"pluginRef": "predicted-latency-cost-scorer"},
                    {"pluginRef": "random-picker"},
                ],
            }
            for name in ("decode", "prefill")
        ],
    }
)
CONFIGS = st.sampled_from([DEFAULT_POLICIES["cost"], DEFAULT_POLICIES["upstream"], DISAGGREGATED])
LEASES = st.integers(0, 9)
ENDPOINTS = st.sampled_from(["e1", "e2", "e3", "e9"])
BLOCKS = st.lists(st.integers(0, 30), max_size=12)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("pick"), LEASES, BLOCKS),
        st.tuples(st.just("told"), LEASES, ENDPOINTS),
        st.tuples(st.just("first"), LEASES, st.booleans()),
        st.tuples(st.just("ended"), LEASES, st.sampled_from([0, 200])),
        st.tuples(st.just("pool"), st.sets(st.integers(1, 3)), st.integers(0, 2)),
        st.tuples(st.just("kv"), ENDPOINTS, BLOCKS),
        st.tuples(st.just("time"), st.sampled_from([-5.0, 0.01, 2.0, 4.0]), st.none()),
    ),
    max_size=60,
)


class Life:
    """A scheduler to which anything may happen."""

    def __init__(self, config: str) -> None:
        self.desk, self.now = Desk([an_endpoint(n) for n in (1, 2, 3)], config, limits=FEW), NOW

    def happens(self, kind: str, what: object, how: object) -> None:
        picking, leases = self.desk.picking, self.desk.leases
        if kind == "pick":
            self.desk.pick(lease_id=f"l{what}", block_hashes=how, prompt_tokens=500, now=self.now)
        elif kind == "told":
            lease = LeaseMessage(
                lease_id=f"l{what}",
                edge="edge",
                pool=POOL,
                endpoint_uid=str(how),
                prompt_tokens=500,
                prefill_tokens=300,
            )
            leases.open(decode_lease(lease, self.now), self.now)
            blocks = pack_block_hashes([1, 2, 3])
            picking.learn_pick(RequestPicked(lease=lease, prompt_block_hashes=blocks))
        elif kind == "first":
            leases.serve(f"l{what}", moved_to="e2" if how else "")
            picking.learn_first_token(
                RequestServing(lease_id=f"l{what}", ttft_ms=70, moved=bool(how))
            )
        elif kind == "ended":
            picking.learn_finish(RequestFinished(lease_id=f"l{what}", http_status=int(str(how))))
            leases.finish(f"l{what}")
        elif kind == "pool" and isinstance(what, set):
            some = [an_endpoint(n, waiting=0, running=0, read_at=self.now) for n in sorted(what)]
            self.desk.say(some, now=self.now)
        elif kind == "kv" and isinstance(how, list):
            event = KvEvents(pool=POOL, endpoint_uid=str(what), chain="router", block_tokens=64)
            event.stored.extend(KvBlock(hash=block) for block in how)
            event.removed.extend(how[::2])
            picking.learn_kv(event)
        elif isinstance(what, float):
            self.now += what  # clocks jump back, too
            leases.expire(self.now)


FEW = StateLimits(max_blocks=25)


@settings(max_examples=150)
@given(CONFIGS, EVENTS)
def test_leases_sum_to_zero_whatever_happened_before(
    config: str, events: list[tuple[str, object, object]]
) -> None:
    life = Life(config)
    for event in events:
        life.happens(*event)
        for uid in ("e1", "e2", "e3", "e9"):
            load = life.desk.leases.load(uid)
            sums = (load.requests, load.prefill_tokens, load.prefilling, load.serving)
            assert min(*sums, load.context_tokens) >= 0
        pool = life.desk.picking.pools.get(POOL)
        assert pool is None or len(pool.index) <= FEW.max_blocks
    life.desk.leases.expire(life.now + 1000.0)
    assert len(life.desk.leases) == 0
    for uid in ("e1", "e2", "e3", "e9"):
        assert life.desk.leases.load(uid).requests == 0
    pick = life.desk.pick(now=life.now + 1000.0)
    if pick.candidates is not None:
        assert not pick.candidates.columns[5:10].any()  # requests to context tokens


@given(
    CONFIGS,
    st.lists(st.tuples(LEASES, BLOCKS), max_size=10),
    st.sets(st.sampled_from(["10.0.0.1:8000", "10.0.0.2", "10.0.0.3:9999", "10.0.0.7"])),
)
def test_a_pick_never_leaves_its_subset(
    config: str, before: list[tuple[int, list[int]]], subset: set[str]
) -> None:
    life = Life(config)
    for number, blocks in before:
        life.happens("pick", number, blocks)
    pick = life.desk.pick(lease_id="last", subset=sorted(subset))
    allowed = {"e1"} if "10.0.0.1:8000" in subset else set[str]()
    allowed |= {"e2"} if "10.0.0.2" in subset else set[str]()
    if isinstance(pick.outcome, Decision):
        chosen = {one.uid for run in pick.outcome.runs.values() for one in run.chosen}
        assert chosen <= allowed
    else:
        assert not allowed
