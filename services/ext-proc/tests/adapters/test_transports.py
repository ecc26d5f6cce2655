"""Gateway, edge and layers on either transport: each may be switched alone."""

from itertools import product
from typing import Any

import pytest
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.service.ext_proc import v3 as envoy

from pointsman_ext_proc.adapters.envoy_messages import PROCESS
from wire import Channel, Transport

REQUEST = envoy.ProcessingRequest(
    request_headers=envoy.HttpHeaders(
        headers=core.HeaderMap(headers=[core.HeaderValue(key="x-request-id", raw_value=b"r1")]),
        end_of_stream=True,
    )
)


@pytest.mark.parametrize("engines", list(product(["wire", "grpcio"], repeat=3)), ids="-".join)
async def test_a_request_passes_whatever_carries_the_calls(
    start_edge: Any, new_layers: Any, engines: tuple[Transport, Transport, Transport]
) -> None:
    gateway, edge, layers = engines
    fakes = await new_layers(transport=layers)
    urls = {f"{name}_url": fakes.url for name in ("router", "flow_controller", "scheduler")}
    running = await start_edge(rpc_transport=edge, **urls)
    async with Channel(running.address, transport=gateway) as channel:
        call = channel.bidi(PROCESS, timeout_s=30.0)
        await call.send(bytes(REQUEST))
        raw = await call.receive()
        assert raw is not None
        assert envoy.ProcessingResponse.parse(raw).dynamic_metadata is not None
        await running.until(lambda: running.told("picked"), seconds=30.0)
        call.cancel()
        await running.until(lambda: running.told("finished"), seconds=30.0)
    assert [event.cause for event in running.told("finished")] == ["client-gone"]
