"""Values for tests, complete but for what the test is about."""

from collections.abc import Iterable, Mapping

from pointsman_common.contract_codec import encode_endpoint, encode_pool_config, pack_block_hashes
from pointsman_common.contracts import pool_pb2, routing_pb2
from pointsman_common.contracts.layer_pb2 import Envelope
from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_common.inference_pool import InferencePool

POOL = "default/llama"


def an_endpoint(
    index: int = 1,
    *,
    waiting: int | None = 0,
    running: int | None = 0,
    kv: float | None = 0.0,
    active_loras: Iterable[str] = (),
    waiting_loras: Iterable[str] = (),
    max_loras: int | None = 4,
    labels: Mapping[str, str] | None = None,
    ready: bool = True,
    read_at: float | None = 1_000.0,
) -> Endpoint:
    """Endpoint `index`: uid `e<index>`, address `10.0.0.<index>:8000`."""
    return Endpoint(
        uid=f"e{index}",
        name=f"default/pod-{index}-rank-0",
        address=f"10.0.0.{index}:8000",
        labels=labels or {},
        ready=ready,
        metrics=EndpointMetrics(
            waiting_requests=waiting,
            running_requests=running,
            kv_cache_utilization=kv,
            active_loras=frozenset(active_loras),
            waiting_loras=frozenset(waiting_loras),
            max_loras=max_loras,
            block_size_tokens=16,
            kv_cache_blocks=25_000,
            read_at=read_at,
        ),
    )


def a_descriptor(
    request_id: str = "r1",
    *,
    pool: str = POOL,
    model: str = "llama",
    priority: int = 0,
    fairness_id: str = "default-flow",
    prompt_tokens: int = 100,
    block_hashes: Iterable[int] = (),
    body_bytes: int = 400,
    subset: Iterable[str] | None = None,
    arrived_at: float = 1_700_000_000.0,
) -> routing_pb2.RequestDescriptor:
    descriptor = routing_pb2.RequestDescriptor(
        request_id=request_id,
        pool=pool,
        model=model,
        target_model=model,
        priority=priority,
        fairness_id=fairness_id,
        prompt_tokens=prompt_tokens,
        prompt_block_hashes=pack_block_hashes(list(block_hashes)),
        block_tokens=64,
        body_bytes=body_bytes,
        api="openai-completions",
        arrived_at=arrived_at,
    )
    if subset is not None:
        descriptor.subset.endpoints.extend(subset)
        descriptor.subset.SetInParent()
    return descriptor


def a_pool_config(pool: InferencePool | None = None, *, sequence: int = 1) -> pool_pb2.PoolConfig:
    message = encode_pool_config(pool or InferencePool(name=POOL, hash="h1"))
    message.envelope.CopyFrom(an_envelope(sequence))
    return message


def a_snapshot(
    endpoints: Iterable[Endpoint], *, pool: str = POOL, sequence: int = 1, now: float = 1_000.0
) -> pool_pb2.PoolSnapshot:
    return pool_pb2.PoolSnapshot(
        envelope=an_envelope(sequence),
        pool=pool,
        endpoints=[encode_endpoint(endpoint, now) for endpoint in endpoints],
    )


def an_envelope(
    sequence: int = 1, *, publisher: str = "datalayer/test", epoch: int = 1
) -> Envelope:
    return Envelope(publisher=publisher, epoch=epoch, sequence=sequence, sent_at=1_700_000_000.0)
