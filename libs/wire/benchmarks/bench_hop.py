"""What one unary hop costs: this package's engine against grpc.aio, in one run of half a minute.

    python libs/wire/benchmarks/bench_hop.py [--seconds 0.9] [--json hop.json]

Each row is a client (this process) and a server (a child) that exchange 600 bytes both ways under a
deadline of 5 s over TCP on the loopback. `p50` is in microseconds, CPU is user and system time of
both processes per call in microseconds. The ratios are to grpc.aio on both sides, at the same
concurrency; read them rather than the figures, which follow the machine and its neighbours.
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

from wire import Channel, Server

ECHO, CPU = "/bench.Hop/Echo", "/bench.Hop/Cpu"
PAYLOAD = os.urandom(600)
DEADLINE_S = 5.0
WARM_UP_CALLS = 200
CONCURRENCIES = (1, 16, 64)

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Row:
    hop: str
    concurrency: int
    calls_per_s: float
    p50_us: float
    p99_us: float
    client_cpu_us: float
    server_cpu_us: float

    @property
    def cpu_us(self) -> float:
        return self.client_cpu_us + self.server_cpu_us


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# -- servers, each in a process of its own


def serve(kind: str, address: str, ready: Connection) -> None:
    uvloop.run(_serve_grpc_aio(ready) if kind == "grpc.aio" else _serve_wire(kind, address, ready))


async def _serve_wire(kind: str, address: str, ready: Connection) -> None:
    async def coroutine(message: bytes) -> bytes:
        return message

    server = Server(transport="wire")
    server.unary(ECHO, coroutine if "coroutine" in kind else lambda message: message)
    server.unary(CPU, lambda _: repr(cpu_s()).encode())
    [bound] = await server.listen(address)
    gc.freeze()
    ready.send(bound)
    await asyncio.Event().wait()


async def _serve_grpc_aio(ready: Connection) -> None:
    async def echo(message: bytes, _: Any) -> bytes:
        return message

    async def cpu(_: bytes, __: Any) -> bytes:
        return repr(cpu_s()).encode()

    server = grpc.aio.server()
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Cpu": grpc.unary_unary_rpc_method_handler(cpu),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Hop", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    gc.freeze()
    ready.send(f"127.0.0.1:{port}")
    await asyncio.Event().wait()


# -- the client


async def measure(hop: str, concurrency: int, call: Call, server_cpu: Call, seconds: float) -> Row:
    for _ in range(WARM_UP_CALLS):
        await call()
    taken: list[float] = []

    async def work(ends_at: float) -> None:
        while (begun := time.perf_counter()) < ends_at:
            await call()
            taken.append(time.perf_counter() - begun)

    server_before, client_before = float(str(await server_cpu())), cpu_s()
    begun = time.perf_counter()
    await asyncio.gather(*(work(begun + seconds) for _ in range(concurrency)))
    elapsed, client_after = time.perf_counter() - begun, cpu_s()
    server_after = float(str(await server_cpu()))
    taken.sort()
    calls = len(taken)
    return Row(
        hop=hop,
        concurrency=concurrency,
        calls_per_s=calls / elapsed,
        p50_us=taken[calls // 2] * 1e6,
        p99_us=taken[int(calls * 0.99)] * 1e6,
        client_cpu_us=(client_after - client_before) / calls * 1e6,
        server_cpu_us=(server_after - server_before) / calls * 1e6,
    )


async def bench_hop(client: str, kind: str, address: str, seconds: float) -> list[Row]:
    """All concurrencies of one pair; `kind` says which server and handler."""
    context = multiprocessing.get_context("spawn")
    parent, child = context.Pipe()
    process = context.Process(target=serve, args=(kind, address, child), daemon=True)
    process.start()
    try:
        bound = await asyncio.to_thread(parent.recv)
        async with AsyncExitStack() as stack:
            call, server_cpu = await _calls(client, bound, stack)
            return [
                await measure(f"{client} -> {kind}", level, call, server_cpu, seconds)
                for level in CONCURRENCIES
            ]
    finally:
        process.terminate()
        process.join()


async def _calls(client: str, address: str, stack: AsyncExitStack) -> tuple[Call, Call]:
    if client == "grpc.aio":
        grpc_channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        echo, cpu = grpc_channel.unary_unary(ECHO), grpc_channel.unary_unary(CPU)

        async def grpc_cpu() -> object:
            return (await cpu(b"")).decode()

        return lambda: echo(PAYLOAD, timeout=DEADLINE_S), grpc_cpu
    channel = await stack.enter_async_context(Channel(address, transport="wire"))

    async def wire_cpu() -> object:
        return (await channel.unary(CPU, b"", timeout_s=DEADLINE_S)).decode()

    if client == "wire, traced":

        def traced() -> Awaitable[object]:
            parent = f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01"
            metadata = {"traceparent": parent}
            return channel.unary(ECHO, PAYLOAD, timeout_s=DEADLINE_S, metadata=metadata)

        return traced, wire_cpu
    return lambda: channel.unary(ECHO, PAYLOAD, timeout_s=DEADLINE_S), wire_cpu


async def run(seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        tcp, unix = "127.0.0.1:0", f"unix://{folder}/hop.sock"
        hops = [
            ("grpc.aio", "grpc.aio", tcp),
            ("wire", "wire", tcp),
            ("wire", "wire coroutine", tcp),
            ("wire, traced", "wire", tcp),
            ("wire", "wire unix", unix),
            ("wire", "grpc.aio", tcp),
            ("grpc.aio", "wire", tcp),
        ]
        return [row for hop in hops for row in await bench_hop(*hop, seconds)]


def table(rows: list[Row]) -> str:
    base = {row.concurrency: row for row in rows if row.hop == "grpc.aio -> grpc.aio"}
    lines = [f"{'hop':<26}{'c':>4}{'calls/s':>9}{'p50':>8}{'client':>8}{'server':>8}  p50 x  CPU x"]
    for row in rows:
        reference = base[row.concurrency]
        lines.append(
            f"{row.hop:<26}{row.concurrency:>4}{row.calls_per_s:>9.0f}{row.p50_us:>8.0f}"
            f"{row.client_cpu_us:>8.1f}{row.server_cpu_us:>8.1f}"
            f"{reference.p50_us / row.p50_us:>7.1f}{reference.cpu_us / row.cpu_us:>7.1f}"
        )
    return "\n".join(lines)


def as_json(rows: list[Row]) -> str:
    base = {row.concurrency: row for row in rows if row.hop == "grpc.aio -> grpc.aio"}
    documents = [
        {
            **asdict(row),
            "p50_ratio": base[row.concurrency].p50_us / row.p50_us,
            "cpu_ratio": base[row.concurrency].cpu_us / row.cpu_us,
        }
        for row in rows
    ]
    return json.dumps(documents, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=0.9, help="of each of the 21 measurements")
    parser.add_argument("--json", type=Path, help="also write the rows and ratios to this file")
    options = parser.parse_args()
    rows: list[Row] = uvloop.run(run(options.seconds))
    sys.stdout.write(table(rows) + "\n")
    if options.json is not None:
        options.json.write_text(as_json(rows) + "\n")


if __name__ == "__main__":
    main()
