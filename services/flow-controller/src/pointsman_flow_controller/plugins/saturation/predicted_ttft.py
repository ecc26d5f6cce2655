"""`predicted-ttft-detector`: how full by the time to first token that a new request would see."""

from collections.abc import Sequence
from dataclasses import dataclass

from pointsman_common.endpoint import Endpoint
from pointsman_flow_controller.core.plugin_protocols import PoolLoad


@dataclass(slots=True)
class PredictedTtftDetector:
    """Predicted time to first token over the time that is to be kept.

    Needs no metrics: leases tell at once, of all replicas. With P uncached prompt tokens waiting
    for their prefill at a mean endpoint and B answers under way there, a prompt token takes p and
    each step of `tokens_per_step` an overhead o:

        TTFT = p·P + (1 + P / (tokens_per_step - B))·o

    An endpoint out of sequence slots is full whatever it predicts. Source: the waiting term of the
    scheduler's predicted-latency-cost-scorer, for the mean endpoint.
    """

    target_s: float = 1.0
    prefill_s_per_token: float = 45e-6
    step_overhead_s: float = 0.011
    """Of a step with a usual batch: weights read once, and the decoding of what runs."""
    tokens_per_step: int = 2_048
    max_sequences: int = 256
    stale_endpoints: int = 0
    _endpoints: int = 0

    def observe(self, endpoints: Sequence[Endpoint], now: float) -> None:
        del now
        self._endpoints = len(endpoints)

    def saturation(self, load: PoolLoad, now: float) -> float:
        del now
        if not self._endpoints:
            return 1.0
        prefill = load.prefill_tokens / self._endpoints
        running = (load.requests - load.prefilling) / self._endpoints
        budget = max(self.tokens_per_step - running, 1.0)
        ttft_s = self.prefill_s_per_token * prefill
        ttft_s += (1.0 + prefill / budget) * self.step_overhead_s
        slots = load.requests / (self.max_sequences * self._endpoints)
        return max(ttft_s / self.target_s, slots)
