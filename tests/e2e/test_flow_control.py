"""Flow control through Envoy, with two flow controllers before a pool with room for 64 requests."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import mean

import pytest
import yaml
from support.burst import Ask, Client, Seen
from support.case_configs import flow_control
from support.case_pools import objective
from support.polling import await_until, wait_until
from support.processes import http_text
from support.whole_stack import POOL, Replica, WholeStack

pytestmark = pytest.mark.timeout(180)

ENGINES, ROOM_EACH = 2, 32
ROOM = ENGINES * ROOM_EACH
STEP_S = 0.02
"""Of an engine at its time factor: an answer takes so long a token."""

PRIORITIES = {"interactive": 10, "standard": 0, "batch": -10}


def picker_config(**section: object) -> str:
    text = flow_control(
        {"type": "concurrency-detector", "parameters": {"maxConcurrency": ROOM_EACH}},
        saturationDetector={"pluginRef": "concurrency-detector"},
        **section,
    )
    document = yaml.safe_load(text)
    document["metadata"] = {"name": "llama", "annotations": {"pointsman.dev/pool": POOL}}
    return yaml.safe_dump(document)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    objectives = [
        {**document, "spec": {**document["spec"], "poolRef": {"name": "llama"}}}
        for document in (objective(name, priority) for name, priority in PRIORITIES.items())
    ]
    with WholeStack(
        tmp_path_factory.mktemp("flow"),
        engines=ENGINES,
        engine_arguments=("--time-factor", str(round(STEP_S / 0.001))),
        replicas={"flow_controller": 2},
        manifests={
            "objectives.yaml": yaml.safe_dump_all(objectives),
            "picker.yaml": picker_config(),
        },
    ) as started:
        yield started


@pytest.fixture
async def client(stack: WholeStack) -> AsyncIterator[Client]:
    async with Client(stack.url) as opened:
        yield opened


def of_all(replicas: Sequence[Replica], name: str, **labels: str) -> float:
    return sum(replica.metric(name, **labels) for replica in replicas if replica.process.alive())


def queued(stack: WholeStack) -> int:
    return int(of_all(stack.layers["flow_controller"], "llm_d_epp_flow_control_queue_size"))


def waits(stack: WholeStack, priority: int) -> dict[float, float]:
    """Requests of a priority that went, by the upper end of the bucket of their wait, summed up."""
    found: dict[float, float] = {}
    name = "llm_d_epp_flow_control_request_queue_duration_seconds_bucket"
    for replica in stack.layers["flow_controller"]:
        for line in replica.metrics().splitlines():
            if line.startswith(name) and f'priority="{priority}"' in line and "Dispatched" in line:
                end = line.partition('le="')[2].partition('"')[0]
                found[float(end)] = found.get(float(end), 0.0) + float(line.rpartition(" ")[2])
    return dict(sorted(found.items()))


def quantile(waited: dict[float, float], part: float) -> float:
    """The upper end of its bucket, seconds."""
    total = max(waited.values())
    return next(end for end, below in waited.items() if below >= part * total)


def engines_answered(stack: WholeStack) -> int:
    lines = [
        line
        for port in stack.engine_ports
        for line in http_text(f"http://127.0.0.1:{port}/metrics").splitlines()
        if line.startswith("vllm:request_success_total")
    ]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


async def idle(stack: WholeStack) -> None:
    await await_until(
        "an idle pool",
        lambda: asyncio.to_thread(lambda: stack.in_flight() == 0 and queued(stack) == 0),
        timeout_s=30,
    )


async def test_a_burst_is_shed_from_below_and_nothing_else_is_lost(
    stack: WholeStack, client: Client
) -> None:
    names = ["interactive"] * 200 + ["standard"] * 1_500 + ["batch"] * 300
    Random(7).shuffle(names)
    before = await asyncio.to_thread(engines_answered, stack)
    seen = await client.burst([Ask(20, name) for name in names], concurrency=500)

    assert len(seen) == 2_000
    by_status = Counter(item.status for item in seen)
    assert set(by_status) == {200, 429}, [
        item.text for item in seen if item.status not in (200, 429)
    ]
    refused = [item for item in seen if item.status == 429]
    assert {item.ask.objective for item in refused} == {"batch"}
    assert {item.reason for item in refused} == {"rejected-saturated"}
    assert all(1 <= int(item.headers["retry-after"]) <= 60 for item in refused)
    # The pool is full from its 65th request on until the last ones run.
    assert len(refused) > 150

    await idle(stack)
    answered = await asyncio.to_thread(engines_answered, stack) - before
    assert answered == by_status[200]
    controllers, edges = stack.layers["flow_controller"], stack.edges["main"]
    left = "llm_d_epp_flow_control_requests_total"
    assert of_all(controllers, left, outcome="Dispatched") == by_status[200]
    assert of_all(controllers, left, outcome="RejectedSaturated") == by_status[429]
    assert of_all(edges, "llm_d_epp_request_total") == by_status[200]
    assert of_all(edges, "llm_d_epp_request_running") == 0

    # Who waits, waits for those of its own priority and above.
    high, low = waits(stack, PRIORITIES["interactive"]), waits(stack, PRIORITIES["standard"])
    assert 2 * quantile(high, 0.99) <= quantile(low, 0.5)


async def blocked(client: Client, stack: WholeStack, ask: Ask) -> list[asyncio.Task[Seen]]:
    """Fill the pool with requests that take for ever.

    In steps: of many at once the replicas shed a few of a negative priority, for each takes the
    other to have let go as much as itself.
    """
    tasks: list[asyncio.Task[Seen]] = []

    async def full() -> bool:
        tasks[:] = [task for task in tasks if not task.done()]
        room = ROOM - await asyncio.to_thread(stack.in_flight)
        tasks.extend(asyncio.create_task(client.ask(ask)) for _ in range(min(room, 16)))
        await asyncio.sleep(0.2)
        return room == 0

    await await_until("a full pool", full, timeout_s=30)
    return tasks


async def test_requests_in_flight_of_a_negative_priority_make_room_where_that_is_allowed(
    stack: WholeStack, client: Client
) -> None:
    await idle(stack)
    path: Path = stack.manifests / "picker.yaml"
    hash_before = stack.pool_state()["config"]["hash"]
    path.write_text(picker_config(enableEviction=True))
    await asyncio.to_thread(
        wait_until,
        "the new configuration",
        lambda: stack.pool_state()["config"]["hash"] != hash_before,
    )
    blockers = await blocked(client, stack, Ask(3_000, "batch"))
    served = await asyncio.gather(*(client.ask(Ask(2, "interactive")) for _ in range(3)))
    assert [item.status for item in served] == [200] * 3
    ended = [task.result() for task in blockers if task.done()]
    for task in blockers:
        task.cancel()
    await asyncio.gather(*blockers, return_exceptions=True)
    assert 1 <= len(ended) <= 6
    assert {(item.status, item.reason) for item in ended} == {(429, "evicted")}
    assert of_all(stack.edges["main"], "pointsman_edge_evictions_total", outcome="refused") == len(
        ended
    )
    await idle(stack)


async def test_a_flow_controller_that_is_killed_loses_none_of_its_queue_nor_its_order(
    stack: WholeStack, client: Client
) -> None:
    loop = asyncio.get_running_loop()
    await idle(stack)
    blockers = await blocked(client, stack, Ask(20_000, stream=True))
    ttl_s = 7.0
    waves = [[Ask(10, ttl_ms=int(ttl_s * 1e3))] * 20, *[[Ask(10)] * 100 for _ in range(5)]]
    tasks: list[list[asyncio.Task[Seen]]] = []
    sent = 0
    for wave in waves:
        tasks.append([asyncio.create_task(client.ask(ask)) for ask in wave])
        sent += len(wave)

        def all_queued(number: int = sent) -> bool:
            return queued(stack) == number

        await await_until("the queue", lambda: asyncio.to_thread(all_queued), timeout_s=7.0)
        await asyncio.sleep(0.1)

    victim, other = stack.layers["flow_controller"]
    lost = victim.metric("llm_d_epp_flow_control_queue_size")
    assert 0.3 * sent < lost < 0.7 * sent
    killed_at = loop.time()
    victim.process.kill()
    try:
        expired = await asyncio.gather(*tasks[0])
        assert [(item.status, item.reason) for item in expired] == [
            (429, "rejected-ttl-expired")
        ] * len(expired)
        # Asked again or not, the time that a request may wait runs from its arrival.
        assert min(item.done_at - item.sent_at for item in expired) > 0.9 * ttl_s
        assert max(item.done_at for item in expired) < killed_at + ttl_s
        assert all(int(item.headers["x-pointsman-queue-position"]) >= 1 for item in expired)
        assert other.metric("llm_d_epp_flow_control_queue_size") == 500
        for task in blockers:
            task.cancel()
        await asyncio.gather(*blockers, return_exceptions=True)
        answers = [await asyncio.gather(*wave) for wave in tasks[1:]]
    finally:
        await asyncio.to_thread(victim.process.restart)
    failed = [item for wave in answers for item in wave if item.status != 200]
    assert failed == []
    done = sorted((item.done_at, number) for number, wave in enumerate(answers) for item in wave)
    places: dict[int, list[int]] = {number: [] for number in range(len(answers))}
    for place, (_, number) in enumerate(done):
        places[number].append(place)
    for number, taken in places.items():
        assert abs(mean(taken) - (100 * number + 49.5)) < 40, {
            n: mean(p) for n, p in places.items()
        }
