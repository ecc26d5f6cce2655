"""The regime of each model of a pool: how scarce the capacity is that this model can use.

All models share the pool's endpoints, so a base model is as scarce as its pool while it is asked
for. An adapter can use the endpoints that hold it or have a slot free; where there is none, its
next request has to wait for another adapter to go.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pointsman_common.contracts.pool_pb2 import ModelRegime, Scarcity
from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_common.inference_pool import InferencePool
from pointsman_datalayer.core.pool_demand import Demand, ModelDemand
from pointsman_datalayer.core.pool_load import PoolLoad, measure_load
from pointsman_datalayer.core.scarcity_regime import ScarcityRegime

MOST_MODELS = 50
"""Told of, of each pool: those asked for most."""

_NOTHING = ModelDemand(0.0, 0.0)


def has_room_for(adapter: str, metrics: EndpointMetrics) -> bool:
    """Whether an endpoint can serve an adapter without loading it in place of another."""
    if metrics.max_loras is None or adapter in metrics.active_loras:
        return True
    return len(metrics.active_loras | metrics.waiting_loras) < metrics.max_loras


@dataclass(slots=True)
class ModelRegimes:
    """Of one pool, over time."""

    rise_s: float
    fall_s: float
    stale_after_s: float
    _regimes: dict[str, ScarcityRegime] = field(default_factory=dict[str, ScarcityRegime])

    def update(
        self,
        config: InferencePool,
        endpoints: Sequence[Endpoint],
        *,
        pool: PoolLoad,
        demand: Demand,
        in_flight: Counter[str],
        now: float,
    ) -> list[ModelRegime]:
        """Judge each model; `now` in monotonic seconds. The busiest comes first."""
        names = self._names(config, demand, in_flight)
        for gone in self._regimes.keys() - set(names):
            del self._regimes[gone]
        adapters = config.lora_adapters.union(
            *(one.metrics.active_loras | one.metrics.waiting_loras for one in endpoints)
        )
        all_work = sum(model.work_per_s for model in demand.models.values())
        ready = [endpoint for endpoint in endpoints if endpoint.ready]
        told: list[ModelRegime] = []
        for name in names:
            usable = ready
            if name in adapters:
                usable = [one for one in ready if has_room_for(name, one.metrics)]
            asked, open_now = demand.models.get(name, _NOTHING), in_flight[name]
            load = self._load(usable, pool, open_now, now)
            regime = self._regimes.get(name)
            if regime is None:
                regime = self._regimes[name] = ScarcityRegime(
                    rise_s=self.rise_s, fall_s=self.fall_s
                )
            # Nobody asks for it: that it would find no slot is not scarcity.
            scarcity = regime.judge(load if open_now else replace(load, ready=pool.ready), now)
            told.append(
                ModelRegime(
                    model=name,
                    scarcity=scarcity,
                    reason=_reason(name in adapters, load, pool, open_now, scarcity),
                    saturation=load.saturation,
                    usable_endpoints=load.ready,
                    in_flight=open_now,
                    requests_per_s=asked.requests_per_s,
                    utilization_share=asked.work_per_s / all_work if all_work else 0.0,
                    since_s=regime.since_s(now),
                )
            )
        return told

    def _names(self, config: InferencePool, demand: Demand, in_flight: Counter[str]) -> list[str]:
        known = {*config.served_models, *in_flight, *demand.models} - {""}
        order = sorted(
            known,
            key=lambda name: (
                -demand.models.get(name, _NOTHING).requests_per_s,
                -in_flight[name],
                name,
            ),
        )
        return order[:MOST_MODELS]

    def _load(
        self, usable: Sequence[Endpoint], pool: PoolLoad, in_flight: int, now: float
    ) -> PoolLoad:
        """The engines do not tell of models: only the leases say whether one is asked for."""
        load = measure_load(usable, in_flight=in_flight, now=now, stale_after_s=self.stale_after_s)
        return replace(
            load,
            untried=pool.untried,
            waiting=0,
            running=0,
            stale=load.stale if in_flight else 0,
            utilization=pool.utilization,
            predicted_ttft_s=pool.predicted_ttft_s,
            ttft_slo_s=pool.ttft_slo_s,
        )


def _reason(
    adapter: bool, load: PoolLoad, pool: PoolLoad, in_flight: int, scarcity: Scarcity
) -> str:
    if not pool.ready:
        return "no endpoint is ready"
    if scarcity == Scarcity.SCARCITY_IDLE:
        return "nobody asks for it"
    if adapter and not load.ready:
        return f"no ready endpoint holds it or has a free adapter slot, {in_flight} in flight"
    parts = [f"saturation {load.saturation:.0%} over {load.ready} usable endpoints"]
    if load.utilization is not None:
        parts.append(f"utilization of the pool {load.utilization:.0%}")
    if load.predicted_ttft_s is not None:
        parts.append(f"first token after {load.predicted_ttft_s:.2f} s")
    return ", ".join([*parts, f"{in_flight} in flight"])
