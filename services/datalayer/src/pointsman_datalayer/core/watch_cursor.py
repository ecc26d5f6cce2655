"""Where one list-and-watch stands: what to ask the API server next, and after which delay.

    LIST ──listed──▶ WATCH ──event, bookmark──▶ WATCH (at the version told)
     ▲                │ │
     │                │ └──ended, failed──▶ WATCH again from the last version, after a delay
     └──410 Gone──────┘    (failed again and again: LIST, lest the version be of another life)

404 says that the kind is not installed, 403 that it may not be read. Neither holds up the start:
the watch is `settled` then, with a problem, and asks again every few seconds. What was known stays,
unless the kind has been missing for so long that it is gone and not merely restarting.
"""

from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random

from pointsman_common.backoff import retry_delay_s

LONGEST_RETRY_S = 1.0
ABSENT_RETRY_S = 3.0
ABSENT_AFTER_S = 10.0
"""A kind that was known counts as gone when it has been missing for this long."""
FAILURES_BEFORE_LIST = 4
STEADY_S = 1.0
"""A stream that lasted for less, without an event, counts as a failure."""


@dataclass(slots=True)
class WatchCursor:
    rng: Random
    resource_version: str | None = None
    """To watch from; `None`: list first."""
    settled: bool = False
    """Whether what is there is known, or that nothing can be known for now."""
    problem: str = ""
    """Why the last attempt failed; empty: it did not."""
    gone: bool = False
    """The kind is not installed: none of its objects is there."""
    delay_s: float = 0.0
    """Wait for this long before the next request."""
    _failures: int = field(default=0)
    _missing_since: float | None = field(default=None)
    _listed_before: bool = field(default=False)

    def listed(self, resource_version: str) -> None:
        self.resource_version = resource_version
        self.settled = self._listed_before = True
        self.gone, self._missing_since = False, None
        self.problem, self.delay_s = "", 0.0
        # A list succeeds after each 410: only what a stream brings shows that all is well.

    def event(self, resource_version: str) -> None:
        """A change or a bookmark has come."""
        self.resource_version = resource_version
        self._failures, self.problem = 0, ""

    def ended(self, lasted_s: float) -> None:
        """The stream was ended by the server or on the way, as every stream is at times."""
        if lasted_s >= STEADY_S:
            self._failures = 0
        self._retry()

    def failed(
        self, status: int | None, why: str, now: float, retry_after_s: float | None = None
    ) -> None:
        """A request or a stream failed; `status` is HTTP's, `None` without an answer."""
        self.problem = why
        if status == HTTPStatus.GONE:
            self.resource_version = None
            self._retry()
        elif status in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
            self._unavailable(status == HTTPStatus.NOT_FOUND, now)
        else:
            self._retry()
            if self._failures >= FAILURES_BEFORE_LIST and status is not None:
                self.resource_version = None
            if retry_after_s is not None:
                self.delay_s = max(self.delay_s, min(retry_after_s, 60.0))

    def _unavailable(self, missing: bool, now: float) -> None:
        self.resource_version = None
        self.settled = True
        self.delay_s = ABSENT_RETRY_S * (0.5 + self.rng.random())
        if not missing:
            return
        if self._missing_since is None:
            self._missing_since = now
        if not self._listed_before or now - self._missing_since >= ABSENT_AFTER_S:
            self.gone = True

    def _retry(self) -> None:
        self.delay_s = (
            retry_delay_s(self._failures - 1, self.rng, longest_s=LONGEST_RETRY_S)
            if self._failures
            else 0.0
        )
        self._failures += 1
