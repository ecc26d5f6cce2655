"""How long a request whose flow controller is gone is asked for again.

A queued request outlives its flow controller: it queues again at another one, with the time of its
arrival, as long as one is back within `retry_s`. Where a request may go without an admission, one
that nobody had taken does not wait for that.
"""

from random import Random

from pointsman_common.backoff import retry_delay_s
from pointsman_common.contracts.flow_pb2 import AdmitRequest
from pointsman_ext_proc.core.open_lease import milliseconds

REFUSED_WITHIN_S = 0.2
"""An attempt that failed sooner reached no queue: every replica refused the connection."""


class AgeingAdmit:
    """A request that is older each time it is asked for: it keeps its place and its time limit."""

    def __init__(self, request: AdmitRequest, now: float) -> None:
        self._request, self._arrived_at = request, now - request.age_ms / 1e3

    def at(self, now: float) -> AdmitRequest:
        """The request as it is then; valid until the next call. Times are monotonic seconds."""
        self._request.age_ms = milliseconds(now - self._arrived_at)
        return self._request


class AdmitRetries:
    """Of one request. Times are monotonic seconds."""

    def __init__(self, *, retry_s: float, fails_open: bool, rng: Random) -> None:
        self._retry_s, self._fails_open, self._rng = retry_s, fails_open, rng
        self._attempt = 0
        self._away_since: float | None = None

    @property
    def failed(self) -> bool:
        """Whether an attempt has failed."""
        return self._away_since is not None

    def delay_s(self, *, asked_at: float, now: float, ends_at: float) -> float | None:
        """Wait this long after an attempt that found nobody, then ask again; `None`: give up."""
        is_first = self._away_since is None
        if self._away_since is None or now - asked_at > self._retry_s:
            self._away_since, self._attempt = now, 0
        if is_first and self._fails_open and now - asked_at < REFUSED_WITHIN_S:
            return None
        delay = retry_delay_s(self._attempt, self._rng, first_s=0.01, longest_s=0.25)
        self._attempt += 1
        return delay if now + delay <= min(ends_at, self._away_since + self._retry_s) else None
