"""Stops calls to a peer that keeps failing, so that nobody waits for nothing.

closed ──N consecutive failures──▶ open ──open_s later──▶ probing ──success──▶ closed
                                    ▲                        │
                                    └────────failure─────────┘
"""


class Circuit:
    """Times are monotonic seconds."""

    def __init__(self, *, failures: int, open_s: float) -> None:
        self._limit, self._open_s = failures, open_s
        self._failures = 0
        self._opened_at: float | None = None
        self._probe_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    def allows(self, now: float) -> bool:
        """Whether a call may be made. One that is, while open, is the probe: tell how it ended."""
        if self._opened_at is None:
            return True
        if now - self._opened_at < self._open_s:
            return False
        if self._probe_at is not None and now - self._probe_at < self._open_s:
            return False  # a probe is out; a lost one must not hold the circuit open for ever
        self._probe_at = now
        return True

    def succeeded(self) -> None:
        self._failures, self._opened_at, self._probe_at = 0, None, None

    def failed(self, now: float) -> None:
        self._failures += 1
        if self._failures >= self._limit:
            self._opened_at, self._probe_at = now, None

    def abandoned(self) -> None:
        """The caller went before there was an outcome: somebody else may probe."""
        self._probe_at = None
