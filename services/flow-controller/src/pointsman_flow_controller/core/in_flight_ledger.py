"""What has been let go to one pool and is not yet finished: how many tokens, and how much of it
the endpoints' metrics cannot show yet.

Metrics lag: an endpoint that said 50 ms ago that nothing waits may have been given twenty requests
since. So a request counts as waiting from its dispatch until its first token is out, or until its
endpoint's metrics have been read again. Only then do the metrics speak for it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pointsman_common.in_flight import Lease
from pointsman_flow_controller.core.plugin_protocols import PoolLoad

TRAVEL_S = 0.01
"""From the dispatch to the engine's queue: pick, proxy and the engine's own parsing. Metrics read
sooner after a dispatch cannot show it."""

TOLD_WITHIN_S = 0.1
"""An edge tells within this where a request went; else the bus is away and nobody ever will."""


@dataclass(slots=True)
class _Entry:
    opened_at: float
    tokens: int = 0
    prefill_tokens: int = 0
    serving: bool = False


class InFlightLedger:
    """Follows the leases of one pool. Every event costs O(1)."""

    def __init__(self) -> None:
        self.load = PoolLoad()
        self.opened_elsewhere = 0
        """Requests that other replicas have let go, since the start."""
        self.sheddable: dict[str, tuple[int, float]] = {}
        """Priority below 0, and the time let go, of what may be ended to make room."""
        self._entries: dict[str, _Entry] = {}
        self._untold: OrderedDict[str, _Entry] = OrderedDict()
        """Let go, oldest first; where to is not told yet."""
        self._unseen: dict[str, tuple[str, _Entry]] = {}
        """The endpoint of those that are told of, and that its metrics do not show yet."""

    @property
    def untold(self) -> int:
        """Let go here, and not yet told of by their edges: others cannot know of them."""
        return len(self._untold)

    def opened(
        self,
        lease_id: str,
        *,
        endpoint: str,
        tokens: int,
        prefill_tokens: int,
        now: float,
        priority: int = 0,
    ) -> None:
        """A request is let go (`endpoint` is empty), or its edge tells where it went."""
        load = self.load
        entry = self._entries.get(lease_id)
        if entry is None:
            entry = self._entries[lease_id] = _Entry(now)
            load.requests += 1
            load.prefilling += 1
            load.unseen += 1
            if endpoint:
                self.opened_elsewhere += 1
                self._unseen[lease_id] = (endpoint, entry)
            else:
                self._untold[lease_id] = entry
            if priority < 0:
                self.sheddable[lease_id] = (priority, now)
        elif endpoint and self._untold.pop(lease_id, None) is not None:
            self._unseen[lease_id] = (endpoint, entry)
        load.tokens += tokens - entry.tokens
        entry.tokens = tokens
        if not entry.serving:
            load.prefill_tokens += prefill_tokens - entry.prefill_tokens
            entry.prefill_tokens = prefill_tokens

    def serving(self, lease_id: str) -> None:
        """The first token is out: the request waits no more."""
        entry = self._entries.get(lease_id)
        if entry is not None:
            self._seen(lease_id)
            self._prefilled(entry)

    def finished(self, lease_id: str) -> None:
        entry = self._entries.pop(lease_id, None)
        if entry is not None:
            self.load.requests -= 1
            self.load.tokens -= entry.tokens
            self._seen(lease_id)
            self._prefilled(entry)
            self.sheddable.pop(lease_id, None)

    def metrics_read(self, read_at: Mapping[str, float | None]) -> None:
        """The ready endpoints' metrics are now of these times (monotonic seconds), by uid.

        What went to an endpoint that is not ready any more waits nowhere.
        """
        for lease_id, (endpoint, entry) in list(self._unseen.items()):
            known = read_at.get(endpoint, float("inf"))
            if known is not None and known >= entry.opened_at + TRAVEL_S:
                self._seen(lease_id)

    def lapse(self, now: float) -> None:
        """Give up those of which no edge has told in time."""
        if not self._untold:
            return
        while (due := self.next_lapse()) is not None and due <= now:
            self._untold.popitem(last=False)
            self.load.unseen -= 1

    def next_lapse(self) -> float | None:
        """When `lapse` has to be called next."""
        if not self._untold:
            return None
        return next(iter(self._untold.values())).opened_at + TOLD_WITHIN_S

    def agree_with(self, leases: Iterable[Lease]) -> None:
        """Take over the whole set of the pool's leases: some go and come without an event."""
        named = {lease.lease_id: lease for lease in leases}
        for lease_id in self._entries.keys() - named.keys():
            self.finished(lease_id)
        for lease_id in named.keys() - self._entries.keys():
            lease = named[lease_id]
            self.opened(
                lease_id,
                endpoint=lease.endpoint,
                tokens=lease.prompt_tokens + lease.expected_output_tokens,
                prefill_tokens=lease.prefill_tokens,
                now=lease.opened_at,
                priority=lease.priority,
            )
            if lease.serving:
                self.serving(lease_id)

    def _seen(self, lease_id: str) -> None:
        told = self._unseen.pop(lease_id, None) is not None
        if told or self._untold.pop(lease_id, None) is not None:
            self.load.unseen -= 1

    def _prefilled(self, entry: _Entry) -> None:
        if not entry.serving:
            entry.serving = True
            self.load.prefilling -= 1
            self.load.prefill_tokens -= entry.prefill_tokens
