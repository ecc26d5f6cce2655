"""KEDA's ExternalScaler: a ScaledObject follows the recommendation, and goes to zero when idle.

The trigger's metadata: `pool` (a name in the ScaledObject's namespace, or <namespace>/<name>),
`metric` (see scaling_metrics.py; the recommended replicas by default) and `target` (what one
replica stands for; 1 by default).
"""

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from pointsman_common.clock import Clock
from pointsman_common.contracts.externalscaler_pb2 import (
    GetMetricSpecResponse,
    GetMetricsRequest,
    GetMetricsResponse,
    IsActiveResponse,
    MetricSpec,
    MetricValue,
    ScaledObjectRef,
)
from pointsman_common.errors import BadRequestError, LayerUnavailableError
from pointsman_common.rpc_server import UnaryHandler
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.core.scaling_metrics import METRICS, RECOMMENDED_REPLICAS
from wire import CallbackStream, RpcStatus

SERVICE = "/externalscaler.ExternalScaler"
LOOK_S = 0.5
"""How often it is looked whether a pool has become active."""
MOST_STREAMS = 1000


@dataclass(frozen=True, slots=True)
class Trigger:
    pool: str
    metric: str
    target: float


class KedaScaler:
    """A part of a service; an RpcServer serves `hooks` and `streams`."""

    def __init__(self, clock: Clock, registry: EndpointRegistry, digests: PoolDigests) -> None:
        self._clock, self._registry, self._digests = clock, registry, digests
        self._open: set[_ActivityStream] = set()
        self.hooks: dict[str, UnaryHandler] = {
            f"{SERVICE}/IsActive": self._is_active,
            f"{SERVICE}/GetMetricSpec": self._metric_spec,
            f"{SERVICE}/GetMetrics": self._metrics,
        }
        self.streams: dict[str, Callable[[], CallbackStream]] = {
            f"{SERVICE}/StreamIsActive": lambda: _ActivityStream(self)
        }

    async def run(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Tell those who watch what has changed."""
        for stream in tuple(self._open):
            stream.tell(active=self.active(stream.pool))

    def active(self, pool: str) -> bool:
        """Whether a pool needs a replica: unless it has been idle for long, it does."""
        return not self._digests.regime(pool).scale_to_zero

    def trigger(self, ref: ScaledObjectRef) -> Trigger:
        """What a ScaledObject asks for.

        Raises:
            BadRequestError: its metadata names no pool or metric that there is.
        """
        metadata = ref.scalerMetadata
        pool, metric = metadata.get("pool", ""), metadata.get("metric", RECOMMENDED_REPLICAS)
        pool = pool if "/" in pool else f"{ref.namespace}/{pool}"
        if pool not in self._registry.pools():
            raise BadRequestError(f"metadata.pool: there is no pool {pool!r}", param="pool")
        if metric not in METRICS:
            known = ", ".join(METRICS)
            raise BadRequestError(f"metadata.metric: {metric!r} is none of {known}", param="metric")
        try:
            target = float(metadata.get("target", "1"))
        except ValueError:
            target = 0.0
        if not 0.0 < target < float("inf"):
            told = metadata.get("target", "")
            raise BadRequestError(f"metadata.target: {told!r} is no number above 0", param="target")
        return Trigger(pool, metric, target)

    def opened(self, stream: "_ActivityStream") -> bool:
        if len(self._open) >= MOST_STREAMS:
            return False
        self._open.add(stream)
        return True

    def closed(self, stream: "_ActivityStream") -> None:
        self._open.discard(stream)

    def _is_active(self, message: bytes) -> bytes:
        trigger = self.trigger(_read_ref(message))
        return IsActiveResponse(result=self.active(trigger.pool)).SerializeToString()

    def _metric_spec(self, message: bytes) -> bytes:
        trigger = self.trigger(_read_ref(message))
        spec = MetricSpec(
            metricName=trigger.metric,
            targetSize=max(1, round(trigger.target)),
            targetSizeFloat=trigger.target,
        )
        return GetMetricSpecResponse(metricSpecs=[spec]).SerializeToString()

    def _metrics(self, message: bytes) -> bytes:
        try:
            request = GetMetricsRequest.FromString(message)
        except DecodeError as error:
            raise BadRequestError(f"no GetMetricsRequest: {error}") from error
        trigger = self.trigger(request.scaledObjectRef)
        value = METRICS[trigger.metric](self._digests.regime(trigger.pool))
        if value is None:
            # An error makes the autoscaler keep what there is; a zero would scale the pool down.
            raise LayerUnavailableError("datalayer", f"{trigger.metric} is not known yet")
        told = MetricValue(
            metricName=trigger.metric, metricValue=round(value), metricValueFloat=value
        )
        return GetMetricsResponse(metricValues=[told]).SerializeToString()


class _ActivityStream(CallbackStream):
    """One StreamIsActive call: told at once, and whenever it changes."""

    __slots__ = ("_scaler", "_told", "pool")

    def __init__(self, scaler: KedaScaler) -> None:
        self._scaler, self._told = scaler, None
        self.pool = ""

    _told: bool | None

    def on_message(self, message: bytes) -> None:
        try:
            self.pool = self._scaler.trigger(_read_ref(message)).pool
        except BadRequestError as error:
            self.finish(RpcStatus.INVALID_ARGUMENT, str(error))
            return
        if not self._scaler.opened(self):
            self.finish(RpcStatus.RESOURCE_EXHAUSTED, f"{MOST_STREAMS} watch already")
            return
        self.tell(active=self._scaler.active(self.pool))

    def on_end(self) -> None:
        """The one message of the client was all; the answers go on."""

    def on_reset(self) -> None:
        self._scaler.closed(self)

    def tell(self, *, active: bool) -> None:
        if active != self._told and not self.unsent_bytes:
            self._told = active
            self.send(IsActiveResponse(result=active).SerializeToString())


def _read_ref(message: bytes) -> ScaledObjectRef:
    try:
        return ScaledObjectRef.FromString(message)
    except DecodeError as error:
        raise BadRequestError(f"no ScaledObjectRef: {error}") from error
