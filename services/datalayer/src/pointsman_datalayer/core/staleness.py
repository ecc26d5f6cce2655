"""From which age a metric is not believed, after which failures an endpoint is not used.

    unknown ──answers──▶ ready ──unreachable `failures` times, or for `after_s`──▶ not ready
                           ▲────────────────────answers────────────────────────────────┘

An endpoint that answers nonsense is alive: its metrics grow stale, and it stays ready. One that
cannot be connected to, or hangs, is unreachable.
"""

from dataclasses import dataclass, replace

NOT_SCRAPED = "not scraped yet"


def is_stale(read_at: float | None, now: float, stale_after_s: float) -> bool:
    """Whether metrics read at `read_at` (monotonic seconds; `None`: never) are too old."""
    return read_at is None or now - read_at > stale_after_s


@dataclass(frozen=True, slots=True)
class ReadinessLimits:
    """Failures in a row, and seconds since the last answer, after which an endpoint is not used."""

    failures: int
    after_s: float


@dataclass(frozen=True, slots=True)
class Health:
    """What the scrapes of one endpoint have shown."""

    ready: bool = False
    reason: str = NOT_SCRAPED
    """Why it is not ready; empty when it is."""
    failures: int = 0
    """Unreachable that many times in a row."""
    failing_since: float = 0.0
    """Monotonic seconds of the first of them."""
    problem: str = ""
    """What was wrong with the last scrape; empty: nothing."""

    def answered(self, problem: str = "") -> "Health":
        """The engine answered, with what could be read or with `problem`."""
        return Health(ready=True, reason="", problem=problem)

    def unreachable(self, problem: str, now: float, limits: ReadinessLimits) -> "Health":
        """The engine could not be connected to, or did not answer in time."""
        failures = self.failures + 1
        since = self.failing_since if self.failures else now
        gone = failures >= limits.failures or now - since >= limits.after_s
        if self.ready and not gone:
            return replace(self, failures=failures, failing_since=since, problem=problem)
        return Health(
            ready=False, reason=problem, failures=failures, failing_since=since, problem=problem
        )
