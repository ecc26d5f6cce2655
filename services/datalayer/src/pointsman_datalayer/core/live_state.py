"""The state of everything as plain data: for the REST API, and in short for the console."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from pointsman_common.contract_codec import encode_pool_config
from pointsman_common.contracts.pool_pb2 import ModelRegime, Regime
from pointsman_common.endpoint import Endpoint
from pointsman_common.in_flight import LeaseTable
from pointsman_datalayer.core.decision_log import Decision, DecisionLog
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.flow_and_shadows import flow_summary, shadow_summary
from pointsman_datalayer.core.layer_roster import Heard, LayerRoster
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.core.scarcity_regime import scarcity_name
from pointsman_datalayer.core.staleness import is_stale

Json = dict[str, Any]

SHOWN_FLOWS = 50
SHOWN_PICKS = 20
SHOWN_ENDPOINTS = 200
"""On the console, of each pool; the REST API gives all."""


@dataclass(frozen=True, slots=True)
class LiveState:
    registry: EndpointRegistry
    digests: PoolDigests
    leases: LeaseTable
    roster: LayerRoster
    decisions: DecisionLog
    discovery: Callable[[], Json]
    stale_after_s: float

    def pools(self, now: float) -> list[Json]:
        return [self._pool_summary(name, now) for name in sorted(self.registry.pools())]

    def pool(self, name: str, now: float) -> Json | None:
        """Everything about one pool; `None` when it is not known."""
        state = self.registry.pools().get(name)
        if state is None:
            return None
        return {
            **self._pool_summary(name, now),
            "config": plain(encode_pool_config(state.config)),
            "endpoints": [
                self._endpoint(endpoint, now) for endpoint in self.registry.endpoints(name)
            ],
            "flows": self._flows(name, now),
        }

    def flow(self, name: str, now: float) -> Json | None:
        """Queues of one pool; `None` when it is not known."""
        if name not in self.registry.pools():
            return None
        flows = self._flows(name, now)
        return {"pool": name, **flow_summary(self.roster.flows(name, now)), "flows": flows}

    def shadows(self, name: str, now: float) -> Json | None:
        """What its shadow schedulers have reported; `None` when the pool is not known."""
        if name not in self.registry.pools():
            return None
        heard = self.roster.shadows(name, now)
        return {"pool": name, "shadows": [shadow_summary(one, now) for one in heard]}

    def layers(self, now: float) -> list[Json]:
        return [_layer(heard, now) for heard in self.roster.replicas(now)]

    def compact(self, now: float) -> Json:
        """What the console shows, small enough to be sent twice a second."""
        return {
            "discovery": self.discovery(),
            "layers": self.layers(now),
            "pools": [
                {
                    **self._pool_summary(name, now),
                    "endpoints": [
                        self._endpoint(endpoint, now)
                        for endpoint, _ in zip(
                            self.registry.endpoints(name), range(SHOWN_ENDPOINTS), strict=False
                        )
                    ],
                    "flows": self._flows(name, now),
                    "bands": flow_summary(self.roster.flows(name, now))["bands"],
                    "shadows": [shadow_summary(one, now) for one in self.roster.shadows(name, now)],
                    "picks": [
                        decision_summary(item) for item in self.decisions.recent(name, SHOWN_PICKS)
                    ],
                }
                for name in sorted(self.registry.pools())
            ],
        }

    def _pool_summary(self, name: str, now: float) -> Json:
        state = self.registry.pools()[name]
        return {
            "pool": name,
            "config_hash": state.config.hash,
            "served_models": sorted(state.config.served_models),
            "endpoint_count": len(state.discovered),
            "in_flight": self.leases.in_flight(name),
            "origin": "gone" if state.gone else "restored" if state.restored else "discovered",
            "regime": _regime(self.digests.regime(name)),
        }

    def _endpoint(self, endpoint: Endpoint, now: float) -> Json:
        metrics = endpoint.metrics
        # A lease names its endpoint by address where its edge knew no uid.
        loads = [self.leases.load(key) for key in (endpoint.uid, endpoint.address)]
        return {
            "uid": endpoint.uid,
            "name": endpoint.name,
            "address": endpoint.address,
            "engine": endpoint.engine,
            "rank": endpoint.rank,
            "epoch": endpoint.epoch,
            "labels": dict(endpoint.labels),
            "ready": endpoint.ready,
            "not_ready_reason": endpoint.not_ready_reason,
            "problem": self.registry.health(endpoint.uid).problem,
            "stale": is_stale(metrics.read_at, now, self.stale_after_s),
            "in_flight": sum(load.requests for load in loads),
            "prefill_tokens": sum(load.prefill_tokens for load in loads),
            "serving": sum(load.serving for load in loads),
            "metrics": {
                "age_s": _finite(metrics.age_s(now)),
                "waiting_requests": metrics.waiting_requests,
                "running_requests": metrics.running_requests,
                "kv_cache_utilization": metrics.kv_cache_utilization,
                "active_loras": sorted(metrics.active_loras),
                "waiting_loras": sorted(metrics.waiting_loras),
                "max_loras": metrics.max_loras,
                "block_size_tokens": metrics.block_size_tokens,
                "kv_cache_blocks": metrics.kv_cache_blocks,
                "attributes": {name: _finite(value) for name, value in metrics.attributes.items()},
            },
        }

    def _flows(self, pool: str, now: float) -> list[Json]:
        """The flows of all flow-controller replicas together, the longest queues first."""
        flows: dict[tuple[int, str], Json] = {}
        for stats in self.roster.flows(pool, now):
            for stat in stats.flows:
                key = (-stat.priority, stat.fairness_id)
                flow = flows.setdefault(
                    key,
                    {
                        "fairness_id": stat.fairness_id,
                        "priority": stat.priority,
                        "queued": 0,
                        "dispatched": 0,
                        "left": 0,
                        "oldest_wait_s": 0.0,
                        "served_tokens": 0,
                    },
                )
                flow["queued"] += stat.queued
                flow["dispatched"] += stat.dispatched
                flow["left"] += sum(stat.left.values())
                flow["served_tokens"] += stat.served_tokens
                flow["oldest_wait_s"] = max(
                    flow["oldest_wait_s"], _finite(stat.oldest_wait_s) or 0.0
                )
        ordered = sorted(flows.items(), key=lambda entry: (-entry[1]["queued"], entry[0]))
        return [flow for _, flow in ordered[:SHOWN_FLOWS]]


def decision_summary(decision: Decision) -> Json:
    """One line of the feed."""
    receipt, finished = decision.receipt, decision.finished
    return {
        "decision_id": receipt.decision_id,
        "descriptor": {
            "request_id": receipt.descriptor.request_id,
            "model": receipt.descriptor.model,
            "target_model": receipt.descriptor.target_model,
            "fairness_id": receipt.descriptor.fairness_id,
            "priority": receipt.descriptor.priority,
        },
        "decided_at": receipt.decided_at,
        "took_us": receipt.took_us,
        "chosen": [endpoint.address for endpoint in receipt.chosen],
        "candidates": decision.candidates,
        "rejected": receipt.rejection.message if receipt.HasField("rejection") else "",
        "reason": receipt.reason,
        "status": finished.http_status if finished is not None else None,
        "duration_ms": finished.duration_ms if finished is not None else None,
    }


def decision_detail(decision: Decision) -> Json:
    """The whole receipt, and how the request ended."""
    finished = decision.finished
    return {
        "receipt": plain(decision.receipt),
        "finished": None if finished is None else plain(finished),
    }


def plain(message: Message) -> Json:
    """A message as JSON data, every field that is not optional written out."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _finite(value: float) -> float | None:
    """Rounded; JSON knows neither NaN nor infinity."""
    return round(value, 3) if math.isfinite(value) else None


def _regime(regime: Regime) -> Mapping[str, Any]:
    replicas = regime.recommended_replicas if regime.HasField("recommended_replicas") else None
    return {
        "scarcity": scarcity_name(regime.scarcity),
        "reason": regime.reason,
        "saturation": round(regime.saturation, 4),
        "ready_endpoints": regime.ready_endpoints,
        "stale_endpoints": regime.stale_endpoints,
        "waiting_requests": regime.waiting_requests,
        "running_requests": regime.running_requests,
        "mean_kv_cache_utilization": round(regime.mean_kv_cache_utilization, 4),
        "since_s": round(regime.since_s, 1),
        "recommended_replicas": replicas,
        "recommendation_reason": regime.recommendation_reason,
        "utilization": round(regime.utilization, 4) if regime.HasField("utilization") else None,
        "predicted_ttft_s": (
            _finite(regime.predicted_ttft_s) if regime.HasField("predicted_ttft_s") else None
        ),
        "requests_per_s": round(regime.requests_per_s, 2),
        "queued_requests": regime.queued_requests,
        "idle_s": round(regime.idle_s, 1),
        "scale_to_zero": regime.scale_to_zero,
        "models": [_model(model) for model in regime.models],
    }


def _model(model: ModelRegime) -> Json:
    return {
        "model": model.model,
        "scarcity": scarcity_name(model.scarcity),
        "reason": model.reason,
        "saturation": round(model.saturation, 4),
        "usable_endpoints": model.usable_endpoints,
        "in_flight": model.in_flight,
        "requests_per_s": round(model.requests_per_s, 2),
        "utilization_share": round(model.utilization_share, 4),
        "since_s": round(model.since_s, 1),
    }


def _layer(heard: Heard, now: float) -> Json:
    beat = heard.beat
    return {
        "layer": beat.description.layer,
        "implementation": beat.description.name,
        "version": beat.description.software_version,
        "contract_version": beat.description.contract_version,
        "replica": beat.envelope.publisher,
        "config_hash": beat.description.config_hash,
        "address": beat.address,
        "admin_url": beat.admin_url,
        "pools": list(beat.pools),
        "draining": beat.draining,
        "open_leases": beat.open_leases,
        "age_s": round(max(0.0, now - heard.at), 2),
        "gauges": {name: _finite(value) for name, value in beat.gauges.items()},
    }
