"""What one replica tells the others of the endpoints that it reads, and what it takes from them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pointsman_common.contract_codec import encode_metrics
from pointsman_common.contracts.pool_pb2 import EndpointReport, PoolShare
from pointsman_common.endpoint import Endpoint

WHOLE_S = 1.0
"""How often all of a share is told, whether it has changed or not."""


@dataclass(slots=True)
class ShareChanges:
    """Remembers what the others were told of one pool."""

    _told: dict[str, Endpoint] = field(default_factory=dict[str, Endpoint])
    _whole_at: float = float("-inf")

    def share(self, pool: str, endpoints: Iterable[Endpoint], now: float) -> PoolShare | None:
        """What is to be told now of the endpoints given, which are ours; `None`: nothing."""
        whole = now - self._whole_at >= WHOLE_S
        if whole:
            self._whole_at = now
        told, message = dict[str, Endpoint](), PoolShare(pool=pool)
        for endpoint in endpoints:
            told[endpoint.uid] = endpoint
            # The registry keeps what has not changed.
            if (whole or self._told.get(endpoint.uid) is not endpoint) and _was_read(endpoint):
                message.endpoints.append(_report(endpoint, now))
        self._told = told
        return message if message.endpoints else None


def _was_read(endpoint: Endpoint) -> bool:
    """Whether there is anything to tell: one that was not looked at says nothing of the engine."""
    return endpoint.ready or endpoint.metrics.read_at is not None


def _report(endpoint: Endpoint, now: float) -> EndpointReport:
    return EndpointReport(
        uid=endpoint.uid,
        ready=endpoint.ready,
        not_ready_reason=endpoint.not_ready_reason,
        epoch=endpoint.epoch,
        metrics=encode_metrics(endpoint.metrics, now),
    )
