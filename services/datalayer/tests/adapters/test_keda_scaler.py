"""KEDA's side of ExternalScaler, played by a real grpcio client."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from pointsman_common.clock import SystemClock
from pointsman_common.contracts.externalscaler_pb2 import (
    GetMetricSpecResponse,
    GetMetricsRequest,
    GetMetricsResponse,
    IsActiveResponse,
    ScaledObjectRef,
)
from pointsman_common.endpoint import EndpointMetrics
from pointsman_common.identity import description
from pointsman_common.inference_pool import InferencePool
from pointsman_common.rpc_address import RpcTransport
from pointsman_common.rpc_server import RpcServer
from pointsman_common.testing.waiting import until
from pointsman_datalayer.adapters.keda_scaler import MOST_STREAMS, SERVICE, KedaScaler
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.engine_metrics import Extraction
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.pool_assembly import DiscoveredPool
from pointsman_datalayer.core.pool_digest import DigestLimits, PoolDigests
from pointsman_datalayer.core.replica_recommendation import ReplicaLimits
from pointsman_datalayer.core.staleness import ReadinessLimits

POOL = "prod/llama"
LIMITS = DigestLimits(2.0, 1.0, 5.0, ReplicaLimits(min_replicas=0), scale_to_zero_after_s=60.0)


class World:
    """A pool of one engine, whose digests are of the moments that a test names."""

    def __init__(self, transport: RpcTransport) -> None:
        self.registry = EndpointRegistry(ReadinessLimits(failures=3, after_s=3.0))
        found = (DiscoveredEndpoint("e1", "prod/e1", "10.0.0.1:8000", {}, "vllm"),)
        config = InferencePool(name=POOL, hash="h")
        self.registry.discover({POOL: DiscoveredPool(config, found)})
        self.digests = PoolDigests(self.registry, lambda _: 0, LIMITS)
        self.scaler = KedaScaler(SystemClock(), self.registry, self.digests)
        self.server = RpcServer(
            "127.0.0.1:0",
            self.scaler.hooks,
            streams=self.scaler.streams,
            describe=lambda: description("datalayer", "datalayer/t"),
            ready=lambda: True,
            transport=transport,
        )

    def at(self, now: float, *, running: int = 0, kv: float = 0.0) -> None:
        metrics = EndpointMetrics(
            waiting_requests=0, running_requests=running, kv_cache_utilization=kv, read_at=now
        )
        self.registry.record_scrape("e1", Extraction(metrics, ()))
        self.digests.update(now)
        self.scaler.look()

    async def next_told(self, told: AsyncIterator[IsActiveResponse]) -> bool:
        """What a watcher is told next. The scaler looks again and again, as by its own clock:
        it passes over a watcher that has not taken what it was told last."""
        answer = asyncio.ensure_future(anext(told))

        def is_told() -> bool:
            self.scaler.look()
            return answer.done()

        await until(is_told)
        return (await answer).result

    @asynccontextmanager
    async def channel(self) -> AsyncGenerator[grpc.aio.Channel]:
        task = asyncio.ensure_future(self.server.run())
        await until(lambda: bool(self.server.bound))
        async with grpc.aio.insecure_channel(self.server.bound[0]) as channel:
            yield channel
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(params=["wire", "grpcio"])
async def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def a_ref(**metadata: str) -> ScaledObjectRef:
    return ScaledObjectRef(
        name="llama", namespace="prod", scalerMetadata={"pool": "llama", **metadata}
    )


async def ask(channel: grpc.aio.Channel, method: str, message: Any, answer: type[Any]) -> Any:
    call = channel.unary_unary(
        f"{SERVICE}/{method}",
        request_serializer=lambda item: item.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    return await call(message, timeout=20)


async def test_the_recommendation_is_the_metric_with_one_replica_a_unit(world: World) -> None:
    for second in range(20):
        world.at(float(second), running=1, kv=1.6 * 0.8)
    async with world.channel() as channel:
        specs = await ask(channel, "GetMetricSpec", a_ref(), GetMetricSpecResponse)
        (spec,) = specs.metricSpecs
        assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == (
            "pointsman_recommended_replicas",
            1,
            1.0,
        )
        request = GetMetricsRequest(scaledObjectRef=a_ref(), metricName=spec.metricName)
        (told,) = (await ask(channel, "GetMetrics", request, GetMetricsResponse)).metricValues
        assert (told.metricName, told.metricValue, told.metricValueFloat) == (spec.metricName, 3, 3)


async def test_another_metric_and_target_may_be_asked_for(world: World) -> None:
    world.at(1.0, running=1, kv=0.4)
    ref = a_ref(metric="pointsman_pool_saturation", target="0.7", pool=POOL)
    async with world.channel() as channel:
        (spec,) = (await ask(channel, "GetMetricSpec", ref, GetMetricSpecResponse)).metricSpecs
        request = GetMetricsRequest(scaledObjectRef=ref)
        (told,) = (await ask(channel, "GetMetrics", request, GetMetricsResponse)).metricValues
    assert spec.targetSizeFloat == 0.7
    assert told.metricValueFloat == 0.5


async def test_before_there_is_a_recommendation_the_call_fails_so_that_nothing_is_scaled(
    world: World,
) -> None:
    world.at(1.0, running=1)
    async with world.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            request = GetMetricsRequest(scaledObjectRef=a_ref())
            await ask(channel, "GetMetrics", request, GetMetricsResponse)
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"pool": "none"}, "metadata.pool"),
        ({"metric": "none"}, "metadata.metric"),
        ({"target": "0"}, "metadata.target"),
        ({"target": "nan"}, "metadata.target"),
    ],
)
async def test_metadata_that_cannot_be_is_refused_by_its_key(
    world: World, metadata: dict[str, str], named: str
) -> None:
    async with world.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await ask(channel, "IsActive", a_ref(**metadata), IsActiveResponse)
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert named in (failure.value.details() or "")


async def test_a_pool_is_active_until_it_has_been_idle_for_long(world: World) -> None:
    async with world.channel() as channel:
        for now, running, active in ((0.0, 1, True), (59.0, 0, True), (61.0, 0, False)):
            world.at(now, running=running)
            answer = await ask(channel, "IsActive", a_ref(), IsActiveResponse)
            assert answer.result is active


async def test_who_watches_is_told_at_once_and_of_every_change(world: World) -> None:
    world.at(0.0, running=1)
    async with world.channel() as channel:
        call = channel.unary_stream(
            f"{SERVICE}/StreamIsActive",
            request_serializer=ScaledObjectRef.SerializeToString,
            response_deserializer=IsActiveResponse.FromString,
        )(a_ref(), timeout=30)
        told = call.__aiter__()
        assert await world.next_told(told)
        world.at(70.0)
        assert not await world.next_told(told)
        world.at(71.0)
        world.at(72.0, running=2)
        assert await world.next_told(told)
        call.cancel()
        await until(lambda: not world.scaler._open)


async def test_no_more_watch_than_there_is_room_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointsman_datalayer.adapters.keda_scaler.MOST_STREAMS", 0)
    assert MOST_STREAMS == 1000
    async with world.channel() as channel:
        call = channel.unary_stream(
            f"{SERVICE}/StreamIsActive", request_serializer=ScaledObjectRef.SerializeToString
        )(a_ref(), timeout=20)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await anext(call.__aiter__())
    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
