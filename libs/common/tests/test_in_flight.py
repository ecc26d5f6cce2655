import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from pointsman_common.contracts import events_pb2
from pointsman_common.in_flight import EndpointLoad, Lease, LeaseTable, decode_lease

POOL, EDGE, NOW = "default/llama", "edge/a", 1_000.0


def a_lease(
    lease_id: str = "l1", *, endpoint: str = "e1", edge: str = EDGE, pool: str = POOL
) -> Lease:
    return Lease(
        lease_id=lease_id,
        edge=edge,
        pool=pool,
        endpoint=endpoint,
        prompt_tokens=100,
        prefill_tokens=60,
    )


PREFILLING = EndpointLoad(requests=1, prefill_tokens=60, prefilling=1)
SERVING = EndpointLoad(requests=1, serving=1, context_tokens=100)
NONE = EndpointLoad()


def test_a_lease_counts_as_prefill_then_as_context_then_not_at_all() -> None:
    table = LeaseTable()
    table.open(a_lease(), NOW)
    assert (table.load("e1"), table.in_flight(POOL), "l1" in table) == (PREFILLING, 1, True)
    table.serve("l1")
    assert table.load("e1") == SERVING
    gone = table.finish("l1")
    assert gone is not None
    assert gone.serving
    assert (table.load("e1"), table.in_flight(POOL), len(table)) == (NONE, 0, 0)


def test_a_lease_that_ends_before_its_first_token_leaves_nothing() -> None:
    table = LeaseTable()
    table.open(a_lease(), NOW)
    table.finish("l1")
    assert (table.load("e1"), table.get("l1"), table.leases()) == (NONE, None, ())


def test_every_event_may_come_twice() -> None:
    table = LeaseTable()
    for _ in range(2):
        table.open(a_lease(), NOW)
    assert table.load("e1") == PREFILLING
    for _ in range(2):
        table.serve("l1")
    assert table.load("e1") == SERVING
    assert table.finish("l1") is not None
    assert table.finish("l1") is None


def test_what_comes_after_the_end_is_ignored() -> None:
    table = LeaseTable()
    table.finish("l1")
    table.open(a_lease(), NOW)
    table.reserve(a_lease(), NOW)
    table.serve("l1")
    assert len(table) == 0


def test_a_first_token_that_is_told_of_before_the_pick_waits_for_it() -> None:
    table = LeaseTable()
    table.serve("l1", moved_to="e2")
    assert len(table) == 0
    table.open(a_lease(), NOW)
    assert (table.load("e1"), table.load("e2")) == (NONE, SERVING)


def test_first_tokens_whose_picks_never_come_do_not_pile_up() -> None:
    table = LeaseTable(remembered=2)
    for lease_id in ("a", "b", "c"):
        table.serve(lease_id)
        table.open(a_lease(lease_id), NOW)
        table.serve(f"{lease_id}-lost")
    table.open(a_lease("a-lost"), NOW)
    table.open(a_lease("c-lost"), NOW)
    assert not table.leases()[3].serving, "the oldest was forgotten"
    assert table.leases()[4].serving


def test_finished_leases_are_remembered_up_to_a_bound() -> None:
    table = LeaseTable(remembered=2)
    for lease_id in ("a", "b", "c"):
        table.finish(lease_id)
        table.open(a_lease(lease_id), NOW)
    assert len(table) == 0
    table.open(a_lease("a"), NOW)
    table.open(a_lease("b"), NOW)
    assert [lease.lease_id for lease in table.leases()] == ["a"]


def test_a_reservation_counts_at_once_and_is_confirmed_by_its_edge() -> None:
    table = LeaseTable(provisional_ttl_s=3.0, edge_ttl_s=100.0)
    table.reserve(a_lease(), NOW)
    table.reserve(a_lease(), NOW + 1)
    assert table.load("e1") == PREFILLING
    assert table.confirmed(EDGE) == 0
    table.open(a_lease(endpoint="e2"), NOW + 2)
    assert (table.load("e1"), table.load("e2")) == (NONE, PREFILLING)
    assert table.confirmed(EDGE) == 1
    assert table.expire(NOW + 50) == 0
    lease = table.get("l1")
    assert lease is not None
    assert lease.opened_at == NOW, "the pick was when it was reserved"


def test_a_reservation_that_nobody_confirms_expires() -> None:
    table = LeaseTable(provisional_ttl_s=3.0)
    table.reserve(a_lease(), NOW)
    assert table.expire(NOW + 2.9) == 0
    assert table.expire(NOW + 3.0) == 1
    assert table.load("e1") == NONE
    table.open(a_lease(), NOW + 4)
    assert table.load("e1") == PREFILLING, "late is not finished"


def test_a_first_token_confirms_a_reservation_of_an_edge_that_is_heard() -> None:
    table = LeaseTable(provisional_ttl_s=3.0, edge_ttl_s=100.0)
    table.heard(EDGE, NOW)
    table.reserve(a_lease(), NOW)
    table.reserve(a_lease("l2", edge="edge/silent"), NOW)
    table.serve("l1")
    table.serve("l2")
    assert table.expire(NOW + 10) == 1
    assert table.load("e1") == SERVING


def test_the_leases_of_a_silent_edge_expire_and_those_of_others_stay() -> None:
    table = LeaseTable(edge_ttl_s=3.0)
    table.open(a_lease("l1"), NOW)
    table.open(a_lease("l2", edge="edge/b"), NOW)
    table.heard("edge/b", NOW + 2)
    assert table.knows(EDGE)
    assert table.expire(NOW + 3.0) == 0
    assert table.expire(NOW + 3.1) == 1
    assert [lease.lease_id for lease in table.leases()] == ["l2"]
    assert not table.knows(EDGE)
    assert table.knows("edge/b")


def test_a_first_token_from_another_endpoint_moves_the_lease_there() -> None:
    table = LeaseTable()
    table.open(a_lease(), NOW)
    table.serve("l1", moved_to="e2")
    assert (table.load("e1"), table.load("e2")) == (NONE, SERVING)
    table.serve("l1")
    assert table.load("e2") == SERVING


def test_a_pick_that_is_told_of_late_does_not_move_a_lease_back() -> None:
    table = LeaseTable()
    table.reserve(a_lease(), NOW)
    table.serve("l1", moved_to="e2")
    table.open(a_lease(endpoint="e1"), NOW)
    assert (table.load("e1"), table.load("e2")) == (NONE, SERVING)


def test_a_snapshot_knows_which_endpoint_serves() -> None:
    table = LeaseTable()
    table.open(a_lease(), NOW)
    table.serve("l1")
    table.replace_edge(EDGE, [replace(a_lease(endpoint="e2"), serving=True)], NOW)
    assert (table.load("e1"), table.load("e2")) == (NONE, SERVING)


def test_a_snapshot_replaces_what_its_edge_holds_in_its_pool_and_nothing_else() -> None:
    table = LeaseTable()
    table.open(a_lease("lost-finish"), NOW)
    table.open(a_lease("kept"), NOW)
    table.open(a_lease("other-pool", pool="default/other"), NOW)
    table.open(a_lease("other-edge", edge="edge/b"), NOW)
    table.reserve(a_lease("reserved"), NOW)
    table.finish("finished")
    table.replace_edge(
        EDGE, [a_lease("kept"), a_lease("lost-pick"), a_lease("finished")], NOW, pool=POOL
    )
    assert {lease.lease_id for lease in table.leases()} == {
        "kept",
        "lost-pick",
        "other-pool",
        "other-edge",
        "reserved",
    }


def test_a_lease_opened_after_the_snapshot_was_written_survives_it() -> None:
    table = LeaseTable()
    table.open(replace(a_lease("before"), told_at=(1, 4)), NOW)
    table.open(replace(a_lease("after"), told_at=(1, 6)), NOW)
    table.open(replace(a_lease("earlier-life"), told_at=(0, 99)), NOW)
    table.replace_edge(EDGE, [], NOW, pool=POOL, up_to=(1, 5))
    assert [lease.lease_id for lease in table.leases()] == ["after"]


def test_a_first_token_told_of_after_the_snapshot_was_written_stays() -> None:
    table = LeaseTable()
    table.open(a_lease(), NOW)
    table.serve("l1", moved_to="e2")
    table.replace_edge(EDGE, [a_lease()], NOW, up_to=(1, 5))
    assert (table.load("e1"), table.load("e2")) == (NONE, SERVING)


def test_a_lease_read_from_a_snapshot_keeps_the_age_it_had() -> None:
    table = LeaseTable()
    message = events_pb2.Lease(
        lease_id="l1",
        edge=EDGE,
        pool=POOL,
        endpoint_address="10.0.0.1:8000",
        age_ms=2500,
        priority=-3,
        serving=True,
    )
    table.replace_edge(EDGE, [decode_lease(message, NOW)], NOW)
    [lease] = table.leases()
    assert (lease.opened_at, lease.endpoint, lease.priority) == (NOW - 2.5, "10.0.0.1:8000", -3)
    assert lease.serving


def test_listeners_hear_the_pool_of_each_lease_that_goes_and_may_use_the_table() -> None:
    table, heard = LeaseTable(edge_ttl_s=3.0), list[str]()

    def refill(pool: str) -> None:
        heard.append(pool)
        table.on_finish(lambda _: None)
        table.reserve(a_lease(f"new-{len(heard)}", edge="edge/b"), NOW)

    table.on_finish(refill)
    for index in range(3):
        table.open(a_lease(f"l{index}"), NOW)
    table.finish("l0")
    table.finish("unknown")
    assert table.expire(NOW + 4) == 3, "two of the silent edge, and what was reserved first"
    assert heard == [POOL] * 4


def test_leases_may_be_walked_while_they_change() -> None:
    table = LeaseTable()
    for index in range(3):
        table.open(a_lease(f"l{index}"), NOW)
    for lease in table.leases():
        table.finish(lease.lease_id)
    assert len(table) == 0


class AgainstANaiveModel(RuleBasedStateMachine):
    """The table beside a plain dictionary whose sums are counted anew each time."""

    LEASES = st.sampled_from([f"l{index}" for index in range(6)])
    ENDPOINTS = st.sampled_from(["e1", "e2", "e3"])
    EDGES = st.sampled_from(["edge/a", "edge/b"])

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable(edge_ttl_s=3.0, provisional_ttl_s=2.0)
        self.now = NOW
        self.sequence = 0
        self.leases: dict[str, Lease] = {}
        self.expiry: dict[str, float] = {}
        self.heard: dict[str, float] = {}
        self.gone: set[str] = set()
        self.early: dict[str, str] = {}
        self.notified: list[str] = []
        self.table.on_finish(self.notified.append)

    def made(self, lease_id: str, endpoint: str, edge: str) -> Lease:
        tokens = len(lease_id) * ord(lease_id[-1])
        return Lease(
            lease_id=lease_id,
            edge=edge,
            pool=f"pool-{edge}",
            endpoint=endpoint,
            prompt_tokens=tokens + 7,
            prefill_tokens=tokens,
        )

    @rule(lease_id=LEASES, endpoint=ENDPOINTS, edge=EDGES)
    def reserve(self, lease_id: str, endpoint: str, edge: str) -> None:
        self.table.reserve(self.made(lease_id, endpoint, edge), self.now)
        if lease_id not in self.leases and lease_id not in self.gone:
            self.leases[lease_id] = self.made(lease_id, endpoint, edge)
            self.expiry[lease_id] = self.now + 2.0

    def told(self, lease: Lease) -> None:
        """What becomes of the model when an edge tells of a lease."""
        if lease.lease_id in self.gone:
            return
        known, early = self.leases.get(lease.lease_id), self.early.pop(lease.lease_id, None)
        self.heard[lease.edge] = self.now
        self.expiry.pop(lease.lease_id, None)
        if not lease.serving and known is not None and known.serving:
            lease = replace(lease, serving=True, endpoint=known.endpoint)
        elif not lease.serving and early is not None:
            lease = replace(lease, serving=True, endpoint=early or lease.endpoint)
        if known is not None:
            lease = replace(lease, told_at=max(lease.told_at, known.told_at))
        self.leases[lease.lease_id] = lease

    @rule(lease_id=LEASES, endpoint=ENDPOINTS, edge=EDGES)
    def open(self, lease_id: str, endpoint: str, edge: str) -> None:
        self.sequence += 1
        lease = replace(self.made(lease_id, endpoint, edge), told_at=(1, self.sequence))
        self.table.open(lease, self.now)
        self.told(lease)

    @rule(lease_id=LEASES, moved_to=st.just("") | ENDPOINTS)
    def serve(self, lease_id: str, moved_to: str) -> None:
        self.table.serve(lease_id, moved_to=moved_to)
        lease = self.leases.get(lease_id)
        if lease is None:
            if lease_id not in self.gone:
                self.early[lease_id] = moved_to
        elif not lease.serving or moved_to:
            self.leases[lease_id] = replace(
                lease, serving=True, endpoint=moved_to or lease.endpoint
            )
            if lease.edge in self.heard:
                self.expiry.pop(lease_id, None)

    @rule(lease_id=LEASES)
    def finish(self, lease_id: str) -> None:
        before = len(self.notified)
        dropped = self.table.finish(lease_id)
        assert (dropped is not None) == (lease_id in self.leases) == (len(self.notified) > before)
        self.gone.add(lease_id)
        self.early.pop(lease_id, None)
        self.leases.pop(lease_id, None)
        self.expiry.pop(lease_id, None)

    @precondition(lambda self: len(self.gone) > 4)
    @rule()
    def start_over(self) -> None:
        self.__init__()  # type: ignore[misc]  # six lease ids would soon all be gone

    @rule(edge=EDGES)
    def heartbeat(self, edge: str) -> None:
        self.table.heard(edge, self.now)
        self.heard[edge] = self.now

    @rule(
        edge=EDGES,
        named=st.dictionaries(LEASES, st.tuples(ENDPOINTS, st.booleans()), max_size=3),
        behind=st.integers(0, 4),
    )
    def snapshot(self, edge: str, named: dict[str, tuple[str, bool]], behind: int) -> None:
        up_to = (1, max(0, self.sequence - behind))
        leases = [
            replace(self.made(lease_id, endpoint, edge), serving=serving, told_at=up_to)
            for lease_id, (endpoint, serving) in named.items()
        ]
        self.table.replace_edge(edge, leases, self.now, pool=f"pool-{edge}", up_to=up_to)
        for lease_id, lease in list(self.leases.items()):
            mine = lease.edge == edge and lease_id not in named and lease_id not in self.expiry
            if mine and lease.told_at <= up_to:
                del self.leases[lease_id]
        self.heard[edge] = self.now
        for lease in leases:
            self.told(lease)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.table.expire(self.now)
        for lease_id, ends_at in list(self.expiry.items()):
            if ends_at <= self.now:
                del self.leases[lease_id], self.expiry[lease_id]
        for edge, heard_at in list(self.heard.items()):
            if self.now - heard_at > 3.0:
                del self.heard[edge]
                for lease_id, lease in list(self.leases.items()):
                    if lease.edge == edge:
                        del self.leases[lease_id]
                        self.expiry.pop(lease_id, None)

    @invariant()
    def the_leases_are_the_same(self) -> None:
        assert {lease.lease_id for lease in self.table.leases()} == self.leases.keys()
        for lease_id, lease in self.leases.items():
            held = self.table.get(lease_id)
            assert held is not None
            assert (held.endpoint, held.serving, held.edge) == (
                lease.endpoint,
                lease.serving,
                lease.edge,
            )
            assert held.provisional == (lease_id in self.expiry)

    @invariant()
    def the_sums_are_those_of_the_leases(self) -> None:
        for endpoint in ("e1", "e2", "e3"):
            mine = [lease for lease in self.leases.values() if lease.endpoint == endpoint]
            prefilling = [lease for lease in mine if not lease.serving]
            serving = [lease for lease in mine if lease.serving]
            assert self.table.load(endpoint) == EndpointLoad(
                requests=len(mine),
                prefill_tokens=sum(lease.prefill_tokens for lease in prefilling),
                prefilling=len(prefilling),
                serving=len(serving),
                context_tokens=sum(lease.prompt_tokens for lease in serving),
            )
        for edge in ("edge/a", "edge/b"):
            held = sum(lease.edge == edge for lease in self.leases.values())
            assert self.table.in_flight(f"pool-{edge}") == held
            reserved = sum(self.leases[lease_id].edge == edge for lease_id in self.expiry)
            assert self.table.confirmed(edge) == held - reserved


TestAgainstANaiveModel = AgainstANaiveModel.TestCase
TestAgainstANaiveModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("endpoint", ["e1", "never-seen"])
def test_an_endpoint_without_leases_has_no_load(endpoint: str) -> None:
    assert LeaseTable().load(endpoint) == NONE
