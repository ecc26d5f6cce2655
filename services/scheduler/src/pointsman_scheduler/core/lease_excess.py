"""Leases that an engine knows nothing of: how many of them still count.

A lease counts until its edge says that the request ended. Should that never come although the edge
lives, the endpoint would look busy for good. So where an engine reports fewer requests, running and
waiting, than there are leases, and does so in every report for more than `GRACE_S`, the least
excess of that time is taken for such leases, and what they count halves every `HALF_LIFE_S`.
"""

from dataclasses import dataclass

from pointsman_common.endpoint import EndpointMetrics

GRACE_S = 5.0
HALF_LIFE_S = 2.0


@dataclass(slots=True)
class _Excess:
    since: float
    """Time of the first of the reports in a row that were below the leases."""
    least: int
    """Requests: what all of these reports fell short by."""
    age_s: float = 0.0


class LeaseExcess:
    """Of the endpoints of one pool, by uid."""

    def __init__(self) -> None:
        self._excess: dict[str, _Excess] = {}
        self.any = False
        """Whether the leases of some endpoint are not all believed."""
        self.begun = 0
        """Times that the leases of an endpoint began to count less."""

    def note(self, uid: str, requests: int, metrics: EndpointMetrics) -> bool:
        """An engine reported while there were so many leases; returns whether `believed` changed.

        A report that says nothing of waiting or running requests tells nothing here.
        """
        running, waiting, read_at = (
            metrics.running_requests,
            metrics.waiting_requests,
            metrics.read_at,
        )
        if running is None or waiting is None or read_at is None:
            return False
        lacking, known = requests - running - waiting, self._excess.get(uid)
        if lacking <= 0:
            if known is None:
                return False
            del self._excess[uid]
            self._sum_up()
            return known.age_s > GRACE_S
        if known is None:
            self._excess[uid] = _Excess(read_at, lacking)
            return False
        before, known.age_s = known.age_s, max(known.age_s, read_at - known.since)
        known.least = min(known.least, lacking)
        if known.age_s <= GRACE_S:
            return False
        self.begun += before <= GRACE_S
        self.any = True
        return True

    def believed(self, uid: str, requests: float) -> float:
        """Share of an endpoint's leases that counts, 0 to 1."""
        known = self._excess.get(uid)
        if known is None or known.age_s <= GRACE_S or requests <= 0:
            return 1.0
        gone = min(known.least, requests) * (1.0 - 0.5 ** ((known.age_s - GRACE_S) / HALF_LIFE_S))
        return float(1.0 - gone / requests)

    def keep(self, uids: set[str]) -> None:
        """Forget the endpoints that are not among these."""
        for uid in self._excess.keys() - uids:
            del self._excess[uid]
        self._sum_up()

    def disbelieved(self) -> int:
        """Leases of all endpoints that count less and less."""
        return sum(known.least for known in self._excess.values() if known.age_s > GRACE_S)

    def _sum_up(self) -> None:
        self.any = any(known.age_s > GRACE_S for known in self._excess.values())
