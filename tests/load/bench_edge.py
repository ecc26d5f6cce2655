"""What an edge process costs a request, on this package's transport and on grpc.aio, in one run:

    python tests/load/bench_edge.py [--exchanges 1200] [--rounds 3] [--json .bench/edge.json]

CPU is user and system time of the edge's process in microseconds, the median of the rounds, which
take turns between the two. The gateway is this process; the three layers are another and answer
at once with what was prepared. `bare` is an edge that reads and answers messages and does nothing
else; `edge` is ours, with its layers, leases, events and metrics. `chunk` is one chunk of an answer
more. A bus is not there: events are written, and not sent. Linux only.
"""

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from bench_exchange import FULL_DUPLEX, messages
from edge_peers import LoadGateway

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `support`

from support.polling import wait_until
from support.ports import free_port
from support.processes import Process, http_status, start_module

CONCURRENCIES = (1, 16, 64)
CHUNKS = 64
WARM_UP = 300
TRANSPORTS = ("wire", "grpcio")
KINDS = ("bare", "edge")


@dataclass(frozen=True)
class Row:
    what: str
    concurrency: int
    transport: str
    cpu_us: float
    p50_ms: float
    per_s: float


class MeasuredEdge:
    def __init__(self, process: Process, address: str) -> None:
        self._process = process
        self.gateway = LoadGateway(address)

    def cpu_s(self) -> float:
        """User and system time since the start, of all its threads, to the nanosecond."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    async def measure(self, sent: list[bytes], *, concurrency: int, exchanges: int) -> list[float]:
        """CPU microseconds, median milliseconds and rate."""
        before = self.cpu_s()
        elapsed, taken = await self.gateway.load(sent, concurrency=concurrency, exchanges=exchanges)
        count = len(taken)
        cpu_us = (self.cpu_s() - before) / count * 1e6
        return [cpu_us, taken[count // 2] * 1e3, count / elapsed]


def start_edge(kind: str, transport: str, folder: Path, stack: ExitStack) -> MeasuredEdge:
    address = f"unix://{folder}/{kind}-{transport}.sock"
    log = folder / f"{kind}-{transport}.log"
    if kind == "bare":
        process = _peer("bare", transport, address, log)
        stack.callback(process.stop)
        wait_until("the bare edge", lambda: Path(address.removeprefix("unix://")).exists())
        return MeasuredEdge(process, address)
    layers = f"unix://{folder}/layers-{transport}.sock"
    stack.callback(_peer("layers", transport, layers, folder / f"layers-{transport}.log").stop)
    admin = f"127.0.0.1:{free_port()}"
    settings = {
        "POOL": "default/llama",
        "RPC_TRANSPORT": transport,
        "BUS_URL": f"nats://127.0.0.1:{free_port()}",
        "LISTEN_ADDRESS": address,
        "HEALTH_ADDRESS": f"127.0.0.1:{free_port()}",
        "ADMIN_ADDRESS": admin,
        "LOG_LEVEL": "warning",
        **{f"{name}_URL": layers for name in ("ROUTER", "FLOW_CONTROLLER", "SCHEDULER")},
        "DATALAYER_URL": layers,
    }
    environment = {f"EXT_PROC_{key}": value for key, value in settings.items()}
    process = start_module("pointsman_ext_proc", log, environment)
    stack.callback(process.stop)
    wait_until("the edge", lambda: process.alive() and http_status(f"http://{admin}/readyz") == 200)
    return MeasuredEdge(process, address)


def _peer(role: str, transport: str, address: str, log: Path) -> Process:
    script = str(Path(__file__).with_name("edge_peers.py"))
    return Process(role, [sys.executable, script, role, transport, address], log)


async def compare(
    what: str,
    edges: dict[str, MeasuredEdge],
    sent: list[bytes],
    *,
    concurrency: int,
    exchanges: int,
    rounds: int,
) -> list[Row]:
    """The edges take turns, so that what the machine does besides meets all of them alike."""
    found: dict[str, list[list[float]]] = {name: [] for name in edges}
    for _ in range(rounds):
        for name, edge in edges.items():
            found[name].append(
                await edge.measure(sent, concurrency=concurrency, exchanges=exchanges)
            )
    return [
        Row(what, concurrency, name, *(statistics.median(each) for each in zip(*runs, strict=True)))
        for name, runs in found.items()
    ]


async def run(*, exchanges: int, rounds: int) -> list[Row]:
    one, many = messages(FULL_DUPLEX, 1), messages(FULL_DUPLEX, 1 + CHUNKS)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="edge") as name, ExitStack() as stack:
        for kind in KINDS:
            edges = {
                transport: start_edge(kind, transport, Path(name), stack)
                for transport in TRANSPORTS
            }
            async with AsyncExitStack() as opened:
                for edge in edges.values():
                    opened.push_async_callback(edge.gateway.close)
                    await edge.gateway.load(one, concurrency=16, exchanges=WARM_UP)
                for concurrency in CONCURRENCIES:
                    count = exchanges if concurrency > 1 else exchanges // 2
                    rows += await compare(
                        kind, edges, one, concurrency=concurrency, exchanges=count, rounds=rounds
                    )
                chunked = await compare(
                    kind, edges, many, concurrency=16, exchanges=exchanges // 8, rounds=rounds
                )
            few = {row.transport: row.cpu_us for row in rows if row.concurrency == 16}
            rows += [
                Row(
                    f"{kind}, chunk",
                    16,
                    row.transport,
                    (row.cpu_us - few[row.transport]) / CHUNKS,
                    row.p50_ms / CHUNKS,
                    row.per_s * CHUNKS,
                )
                for row in chunked
            ]
    return rows


def table(rows: list[Row]) -> str:
    lines = [f"{'':14}{'c':>4}{'wire µs':>10}{'grpcio µs':>11}{'CPU ×':>8}{'p50 ×':>8}"]
    for wire in rows:
        if wire.transport == "wire":
            other = _other(rows, wire)
            lines.append(
                f"{wire.what:14}{wire.concurrency:>4}{wire.cpu_us:>10.1f}{other.cpu_us:>11.1f}"
                f"{other.cpu_us / wire.cpu_us:>8.1f}{other.p50_ms / wire.p50_ms:>8.1f}"
            )
    return "\n".join(lines)


def as_json(rows: list[Row]) -> str:
    documents = [
        {
            **asdict(row),
            "cpu_ratio": _other(rows, row).cpu_us / row.cpu_us,
            "p50_ratio": _other(rows, row).p50_ms / row.p50_ms,
        }
        for row in rows
        if row.transport == "wire"
    ]
    return json.dumps({"rows": [asdict(row) for row in rows], "ratios": documents}, indent=1)


def _other(rows: list[Row], wire: Row) -> Row:
    """The same on grpcio."""
    [found] = [
        row
        for row in rows
        if (row.what, row.concurrency, row.transport) == (wire.what, wire.concurrency, "grpcio")
    ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--exchanges", type=int, default=1_200, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write rows and ratios to this file")
    given = parser.parse_args()
    rows: list[Row] = uvloop.run(run(exchanges=given.exchanges, rounds=given.rounds))
    sys.stdout.write(table(rows) + "\n")
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(as_json(rows) + "\n")


if __name__ == "__main__":
    main()
