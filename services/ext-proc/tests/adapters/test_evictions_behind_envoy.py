"""What the client of an evicted request sees, behind a real Envoy."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from pointsman_common import subjects
from pointsman_common.contracts.flow_pb2 import FlowEvictions
from pointsman_common.testing.builders import POOL

STREAM = b'{"model":"m","stream":true}'
MODES = [
    ("FULL_DUPLEX_STREAMED", "stream"),
    ("STREAMED", "stream"),
    ("STREAMED", "access-log"),
    ("NONE", "stream"),
    ("BUFFERED", "stream"),
]


def evict(running: Any, lease_id: str) -> None:
    message = FlowEvictions(pool=POOL, lease_ids=[lease_id])
    running.bus.publish(subjects.flow_evictions(POOL), message.SerializeToString())


async def the_only_end(running: Any) -> Any:
    await running.until(lambda: running.told("finished"))
    await asyncio.sleep(0.1)  # the access log comes after
    (finished,) = running.told("finished")
    assert len(running.edge.leases) == 0
    assert not running.edge.exchanges.streams
    return finished


@pytest.mark.parametrize(("response_mode", "signal_from"), MODES)
async def test_before_its_answer_an_evicted_request_is_429(
    start_gateway: Any, response_mode: str, signal_from: str
) -> None:
    gateway = await start_gateway(
        "FULL_DUPLEX_STREAMED", response_mode, completion_signal=signal_from
    )
    gateway.backend.hold, gateway.backend.holds_headers = asyncio.Event(), True
    running = gateway.running
    asked = asyncio.create_task(gateway.post(STREAM))
    await running.until(lambda: gateway.backend.seen and running.told("picked"))
    evict(running, running.told("picked")[0].lease.lease_id)
    response = await asked
    assert response.status_code == 429
    assert response.headers["x-llm-d-request-dropped-reason"] == "evicted"
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["message"] == "request evicted by flow control"
    finished = await the_only_end(running)
    assert (finished.cause, finished.http_status) == ("evicted", 429)
    assert running.metric("pointsman_edge_evictions_total", outcome="refused") == 1
    assert running.metric("llm_d_epp_request_error_total") == 0


@pytest.mark.parametrize("response_mode", ["FULL_DUPLEX_STREAMED", "STREAMED"])
async def test_an_answer_that_has_begun_is_cut_off(start_gateway: Any, response_mode: str) -> None:
    gateway = await start_gateway("FULL_DUPLEX_STREAMED", response_mode)
    gateway.backend.hold = asyncio.Event()
    running = gateway.running
    asked = asyncio.create_task(gateway.post(STREAM))
    await running.until(lambda: running.told("serving"))
    evict(running, running.told("serving")[0].lease_id)
    with pytest.raises(httpx.RemoteProtocolError):
        await asked
    finished = await the_only_end(running)
    assert (finished.cause, finished.http_status) == ("evicted", 200)
    assert running.metric("pointsman_edge_evictions_total", outcome="cut") == 1


async def test_an_answer_that_only_the_gateway_carries_goes_on(start_gateway: Any) -> None:
    gateway = await start_gateway(
        "FULL_DUPLEX_STREAMED", "STREAMED", completion_signal="access-log"
    )
    gateway.backend.hold = asyncio.Event()
    running = gateway.running
    asked = asyncio.create_task(gateway.stream())
    await running.until(lambda: running.told("serving"))
    await running.until(lambda: not running.edge.exchanges.streams)
    evict(running, running.told("serving")[0].lease_id)
    gateway.backend.hold.set()
    assert len(await asked) == 300
    assert (await the_only_end(running)).cause == "finished"
    assert running.metric("pointsman_edge_evictions_total", outcome="out-of-reach") == 1


async def test_while_it_waits_for_the_layers_an_evicted_request_is_429(start_gateway: Any) -> None:
    gateway = await start_gateway("FULL_DUPLEX_STREAMED", "STREAMED", error_format="upstream")
    running = gateway.running

    async def never(_: Any) -> Any:
        await asyncio.Event().wait()

    running.layers.pick = never
    asked = asyncio.create_task(gateway.post(json.dumps({"model": "m"}).encode()))
    await running.until(lambda: running.layers.picks)
    evict(running, running.layers.admits[0].lease_id)
    response = await asked
    assert (response.status_code, response.text) == (429, "request evicted by flow control")
    finished = await the_only_end(running)
    assert (finished.cause, finished.http_status) == ("evicted", 429)
    assert not running.edge.exchanges.tasks
