import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from pointsman_common.contracts.layer_pb2 import DescribeRequest, DescribeResponse
from pointsman_common.errors import SettingsError
from pointsman_common.rpc_server import DESCRIBE, HEALTH_CHECK
from pointsman_common.testing.builders import a_snapshot
from pointsman_common.testing.virtual_clock import settle
from pointsman_ext_proc.adapters.ext_proc_server import read_tls
from pointsman_ext_proc.adapters.health_service import HEALTH_LIST
from wire import Channel, RpcError, RpcStatus

READINESS = [
    "",
    "readiness",
    "inference-extension",
    "envoy.service.ext_proc.v3.ExternalProcessor",
]


async def status(channel: Channel, service: str) -> str:
    request = health_pb2.HealthCheckRequest(service=service)
    raw = await channel.unary(HEALTH_CHECK, request.SerializeToString(), timeout_s=5.0)
    value = health_pb2.HealthCheckResponse.FromString(raw).status
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(value))


@pytest.mark.parametrize("listener", ["ext_proc", "health"])
async def test_health_answers_by_upstream_s_names_on_both_listeners(
    start_edge: Any, listener: str
) -> None:
    running = await start_edge()
    server = running.edge.server
    address = running.address if listener == "ext_proc" else server.health_bound[0]
    async with Channel(address) as channel:
        for service in ("liveness", *READINESS):
            assert await status(channel, service) == "SERVING"
        assert await status(channel, "zzz") == "SERVICE_UNKNOWN"
        raw = await channel.unary(DESCRIBE, DescribeRequest().SerializeToString(), timeout_s=5.0)
        assert DescribeResponse.FromString(raw).layer == "ext-proc"
        listed: Any = health_pb2.__dict__["HealthListResponse"]
        raw = await channel.unary(HEALTH_LIST, b"", timeout_s=5.0)
        assert set(listed.FromString(raw).statuses) == {"liveness", *READINESS}
        with pytest.raises(RpcError) as raised:
            await channel.unary("/grpc.health.v1.Health/Watch", b"", timeout_s=5.0)
        assert raised.value.status is RpcStatus.UNIMPLEMENTED


async def test_an_edge_that_knows_no_pool_is_alive_and_not_ready(start_edge: Any) -> None:
    running = await start_edge(pool="default/another")
    async with Channel(running.address) as channel:
        assert await status(channel, "liveness") == "SERVING"
        assert {await status(channel, service) for service in READINESS} == {"NOT_SERVING"}
        running.edge.view.apply_snapshot(a_snapshot([], pool="default/another"), 1.0)
        assert await status(channel, "readiness") == "SERVING"


async def test_a_draining_edge_is_alive_and_not_ready(start_edge: Any) -> None:
    running = await start_edge(drain_delay_s=60.0)
    async with Channel(running.address) as channel:
        draining = asyncio.create_task(running.edge.server.drain(60.0))
        await settle()
        assert await status(channel, "liveness") == "SERVING"
        assert await status(channel, "readiness") == "NOT_SERVING"
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)


def test_tls_settings_name_the_key_at_fault(tmp_path: Any) -> None:
    assert read_tls("", "", "") is None
    for names, key in (
        (("", "key.pem", ""), "tls_certificate_path"),
        (("cert.pem", "", ""), "tls_private_key_path"),
        ((str(tmp_path / "no.pem"), "key.pem", ""), "tls_certificate_path"),
    ):
        with pytest.raises(SettingsError, match=key):
            read_tls(*names)
    pem = tmp_path / "some.pem"
    pem.write_bytes(b"pem")
    tls = read_tls(str(pem), str(pem), str(pem))
    assert tls is not None
    assert tls.client_ca == b"pem"
