"""A foreign scheduler of forty lines takes the seat under load, by one address; nothing fails."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.load import steady_load
from support.polling import wait_until
from support.ports import free_port
from support.processes import Process, http_status, wait_ready
from support.whole_stack import GatewaySpec, Replica, WholeStack

# What is tested is that nothing gets lost; how fast a busy machine answers is not.
PATIENT = {"route_timeout_s": 10, "pick_timeout_s": 10}
EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi_scheduler.py"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    with WholeStack(
        tmp_path_factory.mktemp("swap"), gateways={"main": GatewaySpec(edges=2, settings=PATIENT)}
    ) as started:
        yield started


def test_the_example_is_forty_lines_at_most() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40


async def test_a_fastapi_scheduler_takes_the_seat_under_load(
    stack: WholeStack, tmp_path: Path
) -> None:
    port = free_port()
    scheduler = Process(
        "fastapi scheduler",
        [sys.executable, str(EXAMPLE), "--port", str(port)],
        tmp_path / "scheduler.log",
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until("the example", lambda: http_status(f"{url}/openapi.json") == 200)
        enough = asyncio.Event()
        load = asyncio.create_task(
            steady_load(stack.url, requests=4_000, per_second=50, enough=enough)
        )
        # Each edge in turn drains, ends, and starts again with the other address.
        for edge in stack.edges["main"]:
            await asyncio.to_thread(_restart_with, edge, {"EXT_PROC_SCHEDULER_URL": url})
        [reference] = stack.layers["scheduler"]
        before = reference.metric("llm_d_epp_scheduler_attempts_total")
        picks = scheduler.output().count("POST /v1/pick")
        await asyncio.to_thread(
            wait_until,
            "a hundred picks by the example",
            lambda: scheduler.output().count("POST /v1/pick") >= picks + 100,
        )
        enough.set()
        report = await load
        assert report.failures == []
        assert reference.metric("llm_d_epp_scheduler_attempts_total") == before
    finally:
        scheduler.stop()


def _restart_with(edge: Replica, environment: dict[str, str]) -> None:
    edge.process.replace(environment)
    wait_ready(edge.process, edge.admin)
