"""The server around the API: probes, headers, metrics."""

import io
from typing import Any

import pytest

from pointsman_simulator.adapters.model_server import ModelServer, format_address
from pointsman_simulator.settings import SimulatorSettings


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")]
)
async def test_probes_answer_with_nothing(client: Any, method: str, path: str) -> None:
    async with client.session.request(method, path) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_the_version_is_vllms(client: Any) -> None:
    assert await client.get("/version") == {"version": "0.32.0"}


async def test_responses_tell_who_served_even_errors_and_streams(client: Any) -> None:
    ask = {"prompt": "x", "max_tokens": 1, "stream": True}
    async with client.session.post("/v1/completions", json=ask) as response:
        assert response.headers["x-simulator-endpoint"] == client.address
        assert response.headers["server"] == "uvicorn"
    async with client.session.get("/nope") as response:
        assert response.headers["x-simulator-endpoint"] == client.address


async def test_the_endpoint_header_can_be_left_out(serve: Any) -> None:
    client = await serve(endpoint_header=False)
    async with client.session.get("/health") as response:
        assert "x-simulator-endpoint" not in response.headers


async def test_metrics_count_what_was_served(client: Any) -> None:
    for _ in range(3):
        await client.post("/v1/completions", {"prompt": "x" * 40, "max_tokens": 5})
    assert await client.metric("prompt_tokens_total") == 30
    assert await client.metric("generation_tokens_total") == 15
    assert await client.metric("request_success_total", 'finished_reason="length",') == 3
    assert await client.metric("time_to_first_token_seconds_count") == 3
    assert await client.metric("num_requests_running") == 0
    async with client.session.get("/metrics") as response:
        kind = response.headers["content-type"]
    assert kind == "text/plain; version=0.0.4; charset=utf-8"


def test_ipv6_addresses_have_brackets() -> None:
    assert format_address("::1", 80) == "[::1]:80"
    assert format_address("10.0.0.1", 80) == "10.0.0.1:80"


async def test_a_taken_port_is_an_error_at_the_start(client: Any) -> None:
    taken = int(client.address.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        await ModelServer(SimulatorSettings(), port=taken).start()


async def test_a_body_of_65_megabytes_is_refused(client: Any) -> None:
    status, body = await client.post_raw("/v1/completions", io.BytesIO(b" " * (65 << 20)))
    assert (status, body["error"]["code"]) == (413, 413)
