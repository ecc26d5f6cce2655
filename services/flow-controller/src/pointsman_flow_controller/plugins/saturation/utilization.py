"""`utilization-detector`: how full by the engines' queues and KV caches."""

from collections.abc import Sequence

from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_flow_controller.core.plugin_protocols import PoolLoad


class UtilizationDetector:
    """Mean over the endpoints of max(waiting / queue_depth_threshold, kv / kv_threshold).

    An endpoint whose metrics are stale or absent counts as full (1.0), and so does a pool without
    endpoints. Source: llm-d-router's utilization-detector, with one addition: metrics lag, so each
    request let go that they cannot show yet adds what one more waiting request would,
    1 / (queue_depth_threshold × endpoints). Without it the gate overshoots between two scrapes.
    """

    def __init__(
        self, *, queue_depth_threshold: float, kv_cache_threshold: float, staleness_s: float
    ) -> None:
        self._queue_depth, self._kv_cache = queue_depth_threshold, kv_cache_threshold
        self._staleness_s = staleness_s
        self._fresh: list[tuple[float, float]] = []
        """When each becomes stale, and its part; latest first, so that the end is next."""
        self._sum = 0.0
        self._endpoints = 0
        self.stale_endpoints = 0

    def observe(self, endpoints: Sequence[Endpoint], now: float) -> None:
        self._endpoints = len(endpoints)
        self._fresh = sorted(
            (
                (item.metrics.read_at + self._staleness_s, part)
                for item in endpoints
                if item.metrics.read_at is not None
                and (part := self._part(item.metrics)) is not None
            ),
            reverse=True,
        )
        self._sum = sum(part for _, part in self._fresh)
        self._drop_stale(now)

    def saturation(self, load: PoolLoad, now: float) -> float:
        if not self._endpoints:
            return 1.0
        self._drop_stale(now)
        parts = self._sum + self.stale_endpoints + load.unseen / self._queue_depth
        return parts / self._endpoints

    def _drop_stale(self, now: float) -> None:
        while self._fresh and self._fresh[-1][0] < now:
            self._sum -= self._fresh.pop()[1]
        if not self._fresh:
            self._sum = 0.0  # not what rounding has left of it
        self.stale_endpoints = self._endpoints - len(self._fresh)

    def _part(self, metrics: EndpointMetrics) -> float | None:
        """`None` when neither value is known; of one alone, that one speaks for the endpoint."""
        waiting, kv = metrics.waiting_requests, metrics.kv_cache_utilization
        if waiting is None:
            return None if kv is None else kv / self._kv_cache
        queue = waiting / self._queue_depth
        return queue if kv is None else max(queue, kv / self._kv_cache)
