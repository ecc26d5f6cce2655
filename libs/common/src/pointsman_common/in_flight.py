"""Leases: load given to endpoints and not yet finished. Pure; one owner per table.

    open ──▶ prefilling ──serving()──▶ serving ──finish()──▶ gone
      └────────────────────finish()───────────────────────▶ gone

A provisional lease (reserved at the pick, before its edge has told of it) is gone by itself after
`provisional_ttl_s` unless opened. All leases of an edge are gone when the edge has not been heard
for `edge_ttl_s`. Whatever comes for a lease that is gone is ignored.

Sums per endpoint are kept with each event, so reading them costs nothing.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pointsman_common.contracts import events_pb2


@dataclass(frozen=True, slots=True)
class Lease:
    """See Lease in events.proto; tokens are counts, 0 meaning none or not known."""

    lease_id: str
    edge: str
    pool: str
    endpoint: str
    """The endpoint's uid; its address where no uid is known."""
    prompt_tokens: int = 0
    prefill_tokens: int = 0
    expected_output_tokens: int = 0
    serving: bool = False
    opened_at: float = 0.0
    """Monotonic seconds of the reader."""
    model: str = ""
    fairness_id: str = ""
    priority: int = 0
    provisional: bool = False


@dataclass(slots=True)
class EndpointLoad:
    """Sums over the leases of one endpoint (the letters are those of the cost formula)."""

    requests: int = 0
    prefill_tokens: int = 0
    """P: uncached prompt tokens picked whose first token is not back."""
    prefilling: int = 0
    """Q: their number."""
    serving: int = 0
    """B: streams past the first token."""
    context_tokens: int = 0
    """C: prompt tokens of those streams."""


NO_LOAD = EndpointLoad()


class LeaseTable:
    def __init__(
        self, *, edge_ttl_s: float = 3.0, provisional_ttl_s: float = 3.0, remembered: int = 65_536
    ) -> None:
        self._edge_ttl_s, self._provisional_ttl_s = edge_ttl_s, provisional_ttl_s
        self._remembered = remembered
        self._leases: dict[str, Lease] = {}
        self._by_edge: dict[str, set[str]] = {}
        self._provisional: OrderedDict[str, float] = OrderedDict()
        self._loads: dict[str, EndpointLoad] = {}
        self._pools: dict[str, int] = {}
        self._edges_heard: dict[str, float] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._listeners: list[Callable[[str], None]] = []

    def on_finish(self, listener: Callable[[str], None]) -> None:
        """Have a listener called with the pool's name when one of its leases is gone."""
        self._listeners.append(listener)

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, lease_id: object) -> bool:
        return lease_id in self._leases

    def get(self, lease_id: str) -> Lease | None:
        return self._leases.get(lease_id)

    def load(self, endpoint: str) -> EndpointLoad:
        """The endpoint's sums; the caller must not change them."""
        return self._loads.get(endpoint, NO_LOAD)

    def in_flight(self, pool: str) -> int:
        """Open leases of a pool."""
        return self._pools.get(pool, 0)

    def leases(self) -> Iterable[Lease]:
        return self._leases.values()

    def reserve(self, lease: Lease, now: float) -> None:
        """Count a pick before its edge has told of it."""
        if lease.lease_id in self._leases or lease.lease_id in self._gone:
            return
        self._provisional[lease.lease_id] = now + self._provisional_ttl_s
        self._add(replace(lease, provisional=True, opened_at=now))

    def open(self, lease: Lease, now: float) -> None:
        """The edge tells of its lease: confirms a reservation, or moves it to another endpoint."""
        if lease.lease_id in self._gone:
            return
        self._edges_heard[lease.edge] = now
        known = self._leases.get(lease.lease_id)
        if known is not None:
            self._remove(known)
            lease = replace(lease, serving=lease.serving or known.serving)
        self._provisional.pop(lease.lease_id, None)
        self._add(replace(lease, provisional=False, opened_at=now))

    def serve(self, lease_id: str, *, moved_to: str = "") -> None:
        """The first token is out, perhaps from another endpoint than the one picked."""
        lease = self._leases.get(lease_id)
        if lease is None or (lease.serving and not moved_to):
            return
        self._remove(lease)
        self._add(replace(lease, serving=True, endpoint=moved_to or lease.endpoint))

    def finish(self, lease_id: str) -> Lease | None:
        """Close a lease; remembered, so that what comes late does not open it again."""
        self._gone[lease_id] = None
        if len(self._gone) > self._remembered:
            self._gone.popitem(last=False)
        return self._drop(lease_id)

    def heard(self, edge: str, now: float) -> None:
        """The edge lives: its leases hold for another `edge_ttl_s`."""
        self._edges_heard[edge] = now

    def replace_edge(self, edge: str, leases: Iterable[Lease], now: float) -> None:
        """Take over the whole set of an edge's leases; those it does not name are gone."""
        self._edges_heard[edge] = now
        named = {lease.lease_id: lease for lease in leases}
        for lease_id in self._by_edge.get(edge, set()) - named.keys():
            known = self._leases.get(lease_id)
            if known is not None and not known.provisional:
                self._drop(lease_id)
        for lease in named.values():
            opened_at = lease.opened_at
            self.open(lease, now)
            known = self._leases.get(lease.lease_id)
            if known is not None:
                self._leases[lease.lease_id] = replace(known, opened_at=opened_at)

    def expire(self, now: float) -> int:
        """Drop what nobody vouches for any more; returns how many leases that were."""
        dropped = 0
        while self._provisional:
            lease_id, ends_at = next(iter(self._provisional.items()))
            if ends_at > now:
                break
            dropped += self._drop(lease_id) is not None
        for edge, heard_at in list(self._edges_heard.items()):
            if now - heard_at > self._edge_ttl_s:
                del self._edges_heard[edge]
                for lease_id in list(self._by_edge.get(edge, ())):
                    dropped += self._drop(lease_id) is not None
        return dropped

    def _add(self, lease: Lease) -> None:
        self._leases[lease.lease_id] = lease
        self._by_edge.setdefault(lease.edge, set()).add(lease.lease_id)
        self._pools[lease.pool] = self._pools.get(lease.pool, 0) + 1
        self._count(lease, 1)

    def _remove(self, lease: Lease) -> None:
        del self._leases[lease.lease_id]
        owned = self._by_edge[lease.edge]
        owned.discard(lease.lease_id)
        if not owned:
            del self._by_edge[lease.edge]
        left = self._pools[lease.pool] - 1
        if left:
            self._pools[lease.pool] = left
        else:
            del self._pools[lease.pool]
        self._count(lease, -1)

    def _drop(self, lease_id: str) -> Lease | None:
        lease = self._leases.get(lease_id)
        self._provisional.pop(lease_id, None)
        if lease is not None:
            self._remove(lease)
            for listener in self._listeners:
                listener(lease.pool)
        return lease

    def _count(self, lease: Lease, sign: int) -> None:
        load = self._loads.get(lease.endpoint)
        if load is None:
            load = self._loads[lease.endpoint] = EndpointLoad()
        load.requests += sign
        if lease.serving:
            load.serving += sign
            load.context_tokens += sign * lease.prompt_tokens
        else:
            load.prefilling += sign
            load.prefill_tokens += sign * lease.prefill_tokens
        if not load.requests:
            del self._loads[lease.endpoint]


def decode_lease(message: events_pb2.Lease, now: float) -> Lease:
    """`now` is the reader's monotonic time, from which the age is counted back."""
    return Lease(
        lease_id=message.lease_id,
        edge=message.edge,
        pool=message.pool,
        endpoint=message.endpoint_uid or message.endpoint_address,
        prompt_tokens=message.prompt_tokens,
        prefill_tokens=message.prefill_tokens,
        expected_output_tokens=message.expected_output_tokens,
        serving=message.serving,
        opened_at=now - message.age_ms / 1e3,
        model=message.model,
        fairness_id=message.fairness_id,
        priority=message.priority,
    )
