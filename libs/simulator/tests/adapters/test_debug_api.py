"""What tests of the whole system see and steer."""

import asyncio
import hashlib
from typing import Any

import aiohttp
import pytest

TEXT = "/v1/completions"
ASK = {"prompt": "x", "max_tokens": 2}


async def test_requests_are_kept_as_they_arrived(client: Any) -> None:
    body = b'{"prompt": "x",  "max_tokens": 1}'
    headers = [("X-Twice", "1"), ("X-Twice", "2"), ("x-objective", "critical")]
    async with client.session.post(f"{TEXT}?a=1", data=body, headers=headers) as response:
        assert response.status == 200
    await client.get("/v1/models")
    await client.metrics()
    async with client.session.get("/health"):
        pass
    first, second = (await client.get("/debug/requests"))["requests"]
    assert (first["method"], first["path"]) == ("POST", f"{TEXT}?a=1")
    assert first["body_bytes"] == len(body)
    assert first["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert [value for name, value in first["headers"] if name == "X-Twice"] == ["1", "2"]
    assert ["x-objective", "critical"] in first["headers"]
    assert (second["method"], second["path"], second["body_bytes"]) == ("GET", "/v1/models", 0)


async def test_only_the_last_requests_are_kept_and_they_can_be_forgotten(client: Any) -> None:
    for _ in range(1003):
        async with client.session.get("/nope") as response:
            assert response.status == 404
    assert len((await client.get("/debug/requests"))["requests"]) == 1000
    assert len((await client.get("/debug/requests?last=2"))["requests"]) == 2
    assert (await client.get("/debug/requests?last=0"))["requests"] == []
    async with client.session.get("/debug/requests?last=x") as response:
        assert response.status == 400
    async with client.session.delete("/debug/requests") as response:
        assert response.status == 200
    assert (await client.get("/debug/requests"))["requests"] == []


async def test_reported_metrics_can_be_set_and_cleared(client: Any) -> None:
    override = {
        "waiting": 50,
        "kv": 0.9,
        "running": 3,
        "running_lora_adapters": ["a", "b"],
        "max_lora": 2,
    }
    assert (await client.post("/debug/metrics", override))[0] == 200
    assert await client.metric("num_requests_waiting") == 50
    assert await client.metric("num_requests_running") == 3
    assert await client.metric("kv_cache_usage_perc") == 0.9
    lora = (
        'vllm:lora_requests_info{max_lora="2",running_lora_adapters="a,b",waiting_lora_adapters=""}'
    )
    assert lora in await client.metrics()
    assert (await client.get("/debug/metrics"))["waiting"] == 50
    await client.post("/debug/metrics", {"waiting": 7})
    assert await client.metric("num_requests_waiting") == 7
    assert await client.metric("num_requests_running") == 0
    await client.post_raw("/debug/metrics", b"null")
    assert await client.metric("num_requests_waiting") == 0
    assert (await client.post("/debug/metrics", {"wating": 1}))[0] == 400


async def test_completions_can_fail(client: Any) -> None:
    await client.post("/debug/faults", {"completions": "error500"})
    status, body = await client.post(TEXT, ASK)
    assert (status, body["error"]["code"]) == (500, 500)
    assert await client.get("/debug/faults") == {"metrics": "ok", "completions": "error500"}
    await client.post("/debug/faults", {"completions": "ok"})
    assert (await client.post(TEXT, ASK))[0] == 200


@pytest.mark.parametrize("streamed", [False, True])
async def test_completions_can_lose_their_connection(client: Any, streamed: bool) -> None:
    await client.post("/debug/faults", {"completions": "disconnect"})
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, OSError)):
        async with client.session.post(
            TEXT, json={**ASK, "max_tokens": 50, "stream": streamed}
        ) as response:
            assert streamed, "a whole answer has no beginning to show"
            await response.read()


async def test_what_hangs_goes_on_when_the_fault_is_lifted(client: Any) -> None:
    await client.post("/debug/faults", {"completions": "hang", "metrics": "hang"})
    asking = asyncio.create_task(client.post(TEXT, ASK))
    scraping = asyncio.create_task(client.metrics())
    async with asyncio.timeout(10):
        while not (await client.get("/debug/requests"))["requests"]:
            pass  # the first of the two has not arrived yet
    assert not asking.done()
    assert not scraping.done()
    await client.post("/debug/faults", {"completions": "ok", "metrics": "ok"})
    assert (await asking)[0] == 200
    assert await scraping


async def test_metrics_can_be_an_error_or_garbage(client: Any) -> None:
    await client.post("/debug/faults", {"metrics": "error"})
    async with client.session.get("/metrics") as response:
        assert response.status == 500
    await client.post("/debug/faults", {"metrics": "garbage"})
    async with client.session.get("/metrics") as response:
        assert response.status == 200
        assert "\nvllm:" not in await response.text()


async def test_unknown_faults_are_refused(client: Any) -> None:
    assert (await client.post("/debug/faults", {"metrics": "slow"}))[0] == 400
    assert (await client.post("/debug/faults", {"health": "ok"}))[0] == 400
