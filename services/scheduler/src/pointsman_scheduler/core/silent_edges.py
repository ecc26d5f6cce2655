"""A clock in place of first tokens, for the edges that do not tell of them.

An edge that its gateway hides the answers from tells of picks and ends only. Its requests would
count as waiting to be prefilled until they end, which is too much by far. So their first tokens are
taken to come by a virtual clock for each endpoint, which each pick moves on by the time to prefill
it:

    V = max(V, now) + v*S

An edge is known for silent when so many of its requests in a row have ended well without a first
token, and for telling again with the first that it tells of.
"""

from collections import OrderedDict
from heapq import heappop, heappush

UNTOLD = 8
"""Ends in a row without a first token, from which an edge counts as silent."""
EDGES = 4096
CLOCKS = 65_536


class SilentEdges:
    def __init__(self, *, leases: int = 65_536) -> None:
        """`leases`: first tokens that may be waited for; the others count until their end."""
        self._most = leases
        self._untold: OrderedDict[str, int] = OrderedDict()
        self._clocks: OrderedDict[str, float] = OrderedDict()
        self._due: list[tuple[float, str]] = []
        self._guessed: OrderedDict[str, None] = OrderedDict()
        self.guessed = 0
        """First tokens that were taken to have come."""

    def told(self, edge: str) -> None:
        """The edge told of a first token."""
        self._untold.pop(edge, None)

    def ended(self, edge: str, lease_id: str, *, serving: bool, well: bool) -> None:
        """A request of the edge ended; `serving`: its first token had come, or was taken to."""
        guessed = lease_id in self._guessed
        self._guessed.pop(lease_id, None)
        if well and (guessed or not serving):
            self._untold[edge] = self._untold.get(edge, 0) + 1
            self._untold.move_to_end(edge)
            if len(self._untold) > EDGES:
                self._untold.popitem(last=False)

    def is_silent(self, edge: str) -> bool:
        return self._untold.get(edge, 0) >= UNTOLD

    def picked(self, endpoint: str, lease_id: str, prefill_s: float, now: float) -> None:
        """A request of a silent edge was sent to an endpoint that takes so long to prefill it."""
        if len(self._due) >= self._most:
            return
        first_token_at = max(self._clocks.get(endpoint, now), now) + prefill_s
        self._clocks[endpoint] = first_token_at
        self._clocks.move_to_end(endpoint)
        if len(self._clocks) > CLOCKS:
            self._clocks.popitem(last=False)
        heappush(self._due, (first_token_at, lease_id))

    def due(self, now: float) -> list[str]:
        """Leases whose first token is taken to have come by now, each once."""
        leases: list[str] = []
        while self._due and self._due[0][0] <= now:
            lease_id = heappop(self._due)[1]
            leases.append(lease_id)
            self._guessed[lease_id] = None
            if len(self._guessed) > self._most:
                self._guessed.popitem(last=False)
        self.guessed += len(leases)
        return leases
