"""What a shadow costs production: `PYTHONPATH=tests python tests/load/bench_shadow.py [ROUNDS]`.

The whole stack through Envoy on simulated engines; rounds without and with a shadow take turns, and
so do those with one that is stopped while its messages pile up. Compare the figures of one run.
"""

import asyncio
import os
import signal
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

import httpx
from support.ports import free_port
from support.processes import Process, start_module, wait_ready
from support.whole_stack import WholeStack

KINDS = ("without", "with", "stopped")
REQUESTS, AT_ONCE = 300, 4
FORGOTTEN_S = 16.0
"""Edges send descriptors for 15 s after the last report."""


async def measure(url: str) -> list[float]:
    """Milliseconds of each request, once the stack is warm again."""
    await load(url, REQUESTS // 3)
    return await load(url, REQUESTS)


async def load(url: str, requests: int) -> list[float]:
    times: list[float] = []
    body = {"model": "llama", "prompt": "once upon a time " * 50, "max_tokens": 1}

    async def client(count: int) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=30.0) as http:
            for _ in range(count):
                began = perf_counter()
                reply = await http.post(f"{url}/v1/completions", json=body)
                reply.raise_for_status()
                times.append((perf_counter() - began) * 1e3)

    await asyncio.gather(*(client(requests // AT_ONCE) for _ in range(AT_ONCE)))
    return times


def start_shadow(stack: WholeStack, folder: Path) -> Process:
    environment = {
        "SCHEDULER_ROLE": "shadow",
        "SCHEDULER_SHADOW_NAME": "bench",
        "SCHEDULER_DEFAULT_POLICY": "upstream",
        "SCHEDULER_BUS_URL": f"nats://127.0.0.1:{stack.nats_port}",
        "SCHEDULER_DATALAYER_URL": f"grpc://{stack.layers['datalayer'][0].address}",
        "SCHEDULER_ADMIN_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    shadow = start_module("pointsman_scheduler", folder / "shadow.log", environment)
    wait_ready(shadow, f"http://{environment['SCHEDULER_ADMIN_ADDRESS']}")
    return shadow


def round_of(kind: str, stack: WholeStack, folder: Path) -> list[float]:
    if kind == "without":
        return asyncio.run(measure(stack.url))
    shadow = start_shadow(stack, folder)
    try:
        sleep(2.0)
        if kind == "stopped":
            os.kill(shadow.pid, signal.SIGSTOP)
        return asyncio.run(measure(stack.url))
    finally:
        shadow.kill()
        sleep(FORGOTTEN_S)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with WholeStack(folder, engines=3) as stack:
            figures: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
            for number in range(rounds):
                for kind in KINDS[number % 3 :] + KINDS[: number % 3]:
                    figures[kind].append(round_of(kind, stack, folder))
    for kind, times in figures.items():
        p50 = statistics.median(statistics.median(one) for one in times)
        p95 = statistics.median(statistics.quantiles(one, n=20)[-1] for one in times)
        sys.stdout.write(f"{kind:8} shadow: p50 {p50:.2f} ms, p95 {p95:.2f} ms\n")


if __name__ == "__main__":
    main()
