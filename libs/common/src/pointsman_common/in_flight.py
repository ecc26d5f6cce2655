"""Leases: load given to endpoints and not yet finished. Pure; one owner per table.

    open ──▶ prefilling ──serving()──▶ serving ──finish()──▶ gone
      └────────────────────finish()───────────────────────▶ gone

A provisional lease (reserved at the pick, before its edge has told of it) is gone by itself after
`provisional_ttl_s` unless opened. All leases of an edge are gone when the edge has not been heard
for `edge_ttl_s`. The events of one lease come on several subjects, so in any order: whatever comes
for a finished lease is ignored, and a first token told of before the pick waits for the pick.

Sums per endpoint are kept with each event, so reading them costs nothing.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import msgspec
from msgspec.structs import replace

from pointsman_common.contracts import events_pb2


class Lease(msgspec.Struct, frozen=True, gc=False):
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
    told_at: tuple[int, int] = (0, 0)
    """Epoch and sequence of the edge's message that told of it; see Envelope in layer.proto."""
    prefill_endpoint: str = ""
    """The uid of the endpoint that computes the prompt, where that is another."""


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
        """`remembered`: how many finished leases are known, so that nothing late opens them."""
        self._edge_ttl_s, self._provisional_ttl_s = edge_ttl_s, provisional_ttl_s
        self._remembered = remembered
        self._leases: dict[str, Lease] = {}
        self._by_edge: dict[str, set[str]] = {}
        self._provisional: OrderedDict[str, float] = OrderedDict()
        self._loads: dict[str, EndpointLoad] = {}
        self._pools: dict[str, int] = {}
        self._edges_heard: dict[str, float] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._served_early: OrderedDict[str, str] = OrderedDict()
        self._listeners: list[Callable[[str], None]] = []
        self._load_listeners: list[Callable[[str, str], None]] = []

    def on_finish(self, listener: Callable[[str], None]) -> None:
        """Have a listener called with the pool's name when one of its leases is gone."""
        self._listeners.append(listener)

    def on_load(self, listener: Callable[[str, str], None]) -> None:
        """Have a listener called with pool and endpoint when the endpoint's sums have changed."""
        self._load_listeners.append(listener)

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

    def leases(self) -> tuple[Lease, ...]:
        return tuple(self._leases.values())

    def knows(self, edge: str) -> bool:
        """Whether the edge was heard of within `edge_ttl_s`, as of the last `expire`."""
        return edge in self._edges_heard

    def confirmed(self, edge: str) -> int:
        """Leases that the edge itself has told of."""
        owned = self._by_edge.get(edge, ())
        return sum(not self._leases[lease_id].provisional for lease_id in owned)

    def reserve(self, lease: Lease, now: float) -> None:
        """Count a pick before its edge has told of it."""
        if lease.lease_id in self._leases or lease.lease_id in self._gone:
            return
        self._provisional[lease.lease_id] = now + self._provisional_ttl_s
        if not lease.provisional or lease.opened_at != now:
            lease = replace(lease, provisional=True, opened_at=now)
        self._add(lease)

    def open(self, lease: Lease, now: float) -> None:
        """The edge tells of its lease: confirms a reservation, or moves it to another endpoint."""
        if lease.lease_id in self._gone:
            return
        self._edges_heard[lease.edge] = now
        self._provisional.pop(lease.lease_id, None)
        served_by = self._served_early.pop(lease.lease_id, None)
        known = self._leases.get(lease.lease_id)
        opened_at = lease.opened_at or now
        if known is not None:
            self._remove(known)
            opened_at = min(opened_at, known.opened_at)
            lease = replace(lease, told_at=max(lease.told_at, known.told_at))
            if not lease.prefill_endpoint and lease.endpoint == known.endpoint:
                # An edge may not pass on what the scheduler knows of the pick.
                lease = replace(lease, prefill_endpoint=known.prefill_endpoint)
            if known.serving:
                served_by = known.endpoint
        if served_by is not None and not lease.serving:
            # Written before the first token, so it cannot know which endpoint serves.
            lease = replace(lease, serving=True, endpoint=served_by or lease.endpoint)
        if lease.provisional or lease.opened_at != opened_at:
            lease = replace(lease, provisional=False, opened_at=opened_at)
        self._add(lease)

    def serve(self, lease_id: str, *, moved_to: str = "") -> None:
        """The first token is out, perhaps from another endpoint than the one picked."""
        lease = self._leases.get(lease_id)
        if lease is None:
            if lease_id not in self._gone:
                self._served_early[lease_id] = moved_to
                _trim(self._served_early, self._remembered)
            return
        if lease.serving and not moved_to:
            return
        if lease.provisional and lease.edge in self._edges_heard:
            # Only the edge knows of a first token: it vouches for the lease from here on.
            del self._provisional[lease_id]
            lease = replace(lease, provisional=False)
        self._remove(lease)
        self._add(replace(lease, serving=True, endpoint=moved_to or lease.endpoint))

    def finish(self, lease_id: str) -> Lease | None:
        """Close a lease; remembered, so that what comes late does not open it again."""
        self._gone[lease_id] = None
        _trim(self._gone, self._remembered)
        self._served_early.pop(lease_id, None)
        return self._drop(lease_id)

    def heard(self, edge: str, now: float) -> None:
        """The edge lives: its leases hold for another `edge_ttl_s`."""
        self._edges_heard[edge] = now

    def replace_edge(
        self,
        edge: str,
        leases: Iterable[Lease],
        now: float,
        *,
        pool: str | None = None,
        up_to: tuple[int, int] | None = None,
    ) -> None:
        """Take over the whole set of an edge's leases; those it does not name are gone.

        `pool` is the pool that the set is of; `None`: all. `up_to` is the epoch and sequence that
        the edge had told when it wrote the set: what it told of later stays.
        """
        self._edges_heard[edge] = now
        named = {lease.lease_id: lease for lease in leases}
        for lease_id in self._by_edge.get(edge, set()) - named.keys():
            known = self._leases.get(lease_id)
            if known is None or known.provisional or pool not in (None, known.pool):
                continue
            if up_to is None or known.told_at <= up_to:
                self._drop(lease_id)
        for lease in named.values():
            self.open(lease, now)

    def expire(self, now: float) -> int:
        """Drop what nobody vouches for any more; returns how many leases that were."""
        dropped = 0
        over = list(takewhile(lambda entry: entry[1] <= now, self._provisional.items()))
        for lease_id, _ in over:
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
            for listener in tuple(self._listeners):
                listener(lease.pool)
        return lease

    def _count(self, lease: Lease, sign: int) -> None:
        load = self._load(lease.endpoint)
        load.requests += sign
        prefilled_by = ""
        if lease.serving:
            load.serving += sign
            load.context_tokens += sign * lease.prompt_tokens
        elif lease.prefill_endpoint:
            prefilled_by = lease.prefill_endpoint
            prefill = self._load(prefilled_by)
            prefill.requests += sign
            prefill.prefilling += sign
            prefill.prefill_tokens += sign * lease.prefill_tokens
        else:
            load.prefilling += sign
            load.prefill_tokens += sign * lease.prefill_tokens
        for endpoint in (lease.endpoint, prefilled_by) if prefilled_by else (lease.endpoint,):
            if not self._load(endpoint).requests:
                del self._loads[endpoint]
            for listener in self._load_listeners:
                listener(lease.pool, endpoint)

    def _load(self, endpoint: str) -> EndpointLoad:
        load = self._loads.get(endpoint)
        if load is None:
            load = self._loads[endpoint] = EndpointLoad()
        return load


def _trim(remembered: OrderedDict[str, Any], most: int) -> None:
    while len(remembered) > most:
        remembered.popitem(last=False)


def decode_lease(
    message: events_pb2.Lease,
    now: float,
    *,
    edge: str = "",
    pool: str = "",
    told_at: tuple[int, int] = (0, 0),
) -> Lease:
    """`now` is the reader's monotonic time, from which the age is counted back.

    `edge` and `pool` are those of the message around a lease that names none.
    """
    return Lease(
        lease_id=message.lease_id,
        edge=message.edge or edge,
        pool=message.pool or pool,
        endpoint=message.endpoint_uid or message.endpoint_address,
        prompt_tokens=message.prompt_tokens,
        prefill_tokens=message.prefill_tokens,
        expected_output_tokens=message.expected_output_tokens,
        serving=message.serving,
        opened_at=now - message.age_ms / 1e3,
        model=message.model,
        fairness_id=message.fairness_id,
        priority=message.priority,
        told_at=told_at,
        prefill_endpoint=message.prefill_endpoint_uid,
    )
