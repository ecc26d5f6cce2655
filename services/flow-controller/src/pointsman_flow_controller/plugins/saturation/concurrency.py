"""`concurrency-detector`: how full by what is in flight."""

from collections.abc import Sequence
from typing import Literal

from pointsman_common.endpoint import Endpoint
from pointsman_flow_controller.core.plugin_protocols import PoolLoad

ConcurrencyMode = Literal["requests", "tokens", "hybrid"]


class ConcurrencyDetector:
    """Requests, or their tokens, in flight over what the endpoints may hold together.

    Needs no metrics: leases tell at once, of all replicas. Source: llm-d-router's
    concurrency-detector; `hybrid` is the larger of the two ratios of the pool, where upstream
    means the larger ratio of each endpoint.
    """

    def __init__(
        self, *, max_requests: int, max_tokens: int, mode: ConcurrencyMode = "requests"
    ) -> None:
        self._max_requests, self._max_tokens, self._mode = max_requests, max_tokens, mode
        self._endpoints = 0
        self.stale_endpoints = 0

    def observe(self, endpoints: Sequence[Endpoint], now: float) -> None:
        del now
        self._endpoints = len(endpoints)

    def saturation(self, load: PoolLoad, now: float) -> float:
        del now
        if not self._endpoints:
            return 1.0
        by_requests = load.requests / (self._max_requests * self._endpoints)
        by_tokens = load.tokens / (self._max_tokens * self._endpoints)
        if self._mode == "requests":
            return by_requests
        return by_tokens if self._mode == "tokens" else max(by_requests, by_tokens)
