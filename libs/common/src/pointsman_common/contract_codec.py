"""Contract messages to domain values and back. Ages cross as ages, never as clock readings."""

import struct
from collections.abc import Iterable, Sequence

from pointsman_common.contracts import pool_pb2
from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget, RoutePolicy


def decode_metrics(message: pool_pb2.EndpointMetrics, now: float) -> EndpointMetrics:
    """`now` is the reader's monotonic time, from which the age is counted back."""
    known = message.HasField
    return EndpointMetrics(
        waiting_requests=message.waiting_requests if known("waiting_requests") else None,
        running_requests=message.running_requests if known("running_requests") else None,
        kv_cache_utilization=(
            message.kv_cache_utilization if known("kv_cache_utilization") else None
        ),
        active_loras=frozenset(message.active_loras),
        waiting_loras=frozenset(message.waiting_loras),
        max_loras=message.max_loras if known("max_loras") else None,
        block_size_tokens=message.block_size_tokens if known("block_size_tokens") else None,
        kv_cache_blocks=message.kv_cache_blocks if known("kv_cache_blocks") else None,
        read_at=now - message.age_ms / 1e3 if known("age_ms") else None,
        attributes=dict(message.attributes),
    )


def encode_metrics(metrics: EndpointMetrics, now: float) -> pool_pb2.EndpointMetrics:
    """`now` is the sender's monotonic time."""
    message = pool_pb2.EndpointMetrics(
        active_loras=sorted(metrics.active_loras),
        waiting_loras=sorted(metrics.waiting_loras),
        attributes=metrics.attributes,
    )
    for name in (
        "waiting_requests",
        "running_requests",
        "kv_cache_utilization",
        "max_loras",
        "block_size_tokens",
        "kv_cache_blocks",
    ):
        value = getattr(metrics, name)
        if value is not None:
            setattr(message, name, value)
    if metrics.read_at is not None:
        message.age_ms = min(round(metrics.age_s(now) * 1e3), 0xFFFFFFFF)
    return message


def decode_endpoint(message: pool_pb2.Endpoint, now: float) -> Endpoint:
    return Endpoint(
        uid=message.uid,
        name=message.name,
        address=message.address,
        labels=dict(message.labels),
        ready=message.ready,
        not_ready_reason=message.not_ready_reason,
        engine=message.engine,
        rank=message.rank,
        epoch=message.epoch,
        metrics=decode_metrics(message.metrics, now),
    )


def encode_endpoint(endpoint: Endpoint, now: float) -> pool_pb2.Endpoint:
    return pool_pb2.Endpoint(
        uid=endpoint.uid,
        name=endpoint.name,
        address=endpoint.address,
        labels=endpoint.labels,
        ready=endpoint.ready,
        not_ready_reason=endpoint.not_ready_reason,
        engine=endpoint.engine,
        rank=endpoint.rank,
        epoch=endpoint.epoch,
        metrics=encode_metrics(endpoint.metrics, now),
    )


def decode_pool_config(message: pool_pb2.PoolConfig) -> InferencePool:
    return InferencePool(
        name=message.pool,
        hash=message.hash,
        selector=dict(message.selector),
        target_ports=tuple(message.target_ports),
        app_protocol=message.app_protocol or "http",
        failure_mode=message.failure_mode or "FailClose",
        objectives={item.name: item.priority for item in message.objectives},
        model_rules=tuple(_decode_rule(rule) for rule in message.model_rules),
        endpoint_picker_config=message.endpoint_picker_config,
        served_models=frozenset(message.served_models),
        lora_adapters=frozenset(message.lora_adapters),
        prefix_block_tokens=message.prefix_block_tokens or 64,
        route_policies=tuple(RoutePolicy(item.name, item.spec) for item in message.route_policies),
    )


def encode_pool_config(pool: InferencePool) -> pool_pb2.PoolConfig:
    """All but the envelope."""
    return pool_pb2.PoolConfig(
        pool=pool.name,
        hash=pool.hash,
        selector=pool.selector,
        target_ports=pool.target_ports,
        app_protocol=pool.app_protocol,
        failure_mode=pool.failure_mode,
        objectives=[
            pool_pb2.InferenceObjective(name=name, priority=priority)
            for name, priority in sorted(pool.objectives.items())
        ],
        model_rules=[_encode_rule(rule) for rule in pool.model_rules],
        endpoint_picker_config=pool.endpoint_picker_config,
        served_models=sorted(pool.served_models),
        lora_adapters=sorted(pool.lora_adapters),
        prefix_block_tokens=pool.prefix_block_tokens,
        route_policies=[
            pool_pb2.RoutePolicy(name=item.name, spec=item.spec) for item in pool.route_policies
        ],
    )


def pack_block_hashes(hashes: Sequence[int]) -> bytes:
    """Unsigned 64-bit values, little endian, one after the other."""
    return struct.pack(f"<{len(hashes)}Q", *hashes)


def unpack_block_hashes(packed: bytes) -> tuple[int, ...]:
    """Raises ValueError when the length is no multiple of 8."""
    if len(packed) % 8:
        raise ValueError(f"block hashes of {len(packed)} bytes: not a multiple of 8")
    return struct.unpack(f"<{len(packed) // 8}Q", packed)


def decode_endpoints(messages: Iterable[pool_pb2.Endpoint], now: float) -> tuple[Endpoint, ...]:
    return tuple(decode_endpoint(message, now) for message in messages)


def _decode_rule(rule: pool_pb2.ModelRule) -> ModelRule:
    return ModelRule(
        source=rule.source,
        models=frozenset(rule.models),
        targets=tuple(ModelTarget(target.model, target.weight) for target in rule.targets),
        priority=rule.priority if rule.HasField("priority") else None,
    )


def _encode_rule(rule: ModelRule) -> pool_pb2.ModelRule:
    message = pool_pb2.ModelRule(
        source=rule.source,
        models=sorted(rule.models),
        targets=[
            pool_pb2.ModelTarget(model=target.model, weight=target.weight)
            for target in rule.targets
        ],
    )
    if rule.priority is not None:
        message.priority = rule.priority
    return message
