"""Where a request goes when no scheduler answers: the ready endpoints, each in turn."""

from collections.abc import Sequence

from pointsman_common.endpoint import Endpoint
from pointsman_ext_proc.core.exchange_events import Destination

FALLBACKS = 2
"""Endpoints named after the primary."""


class LastResort:
    def __init__(self) -> None:
        self._turn = 0

    def pick(self, ready: Sequence[Endpoint]) -> tuple[Destination, ...]:
        """The next endpoint in turn, then its followers as fallbacks; empty when there is none."""
        if not ready:
            return ()
        turn = self._turn
        self._turn += 1
        count = len(ready)
        return tuple(
            Destination(endpoint.uid, endpoint.address)
            for endpoint in (
                ready[(turn + step) % count] for step in range(min(count, 1 + FALLBACKS))
            )
        )
