"""Two datalayers that share 1,000 endpoints: `python tests/load/bench_scrape_replicas.py`.

How evenly they share them, and how old the metrics of an endpoint get for a reader of the bus when
one of them is killed. Budget: no endpoint over 3 s. `--endpoints N --seconds S --kill 0|1`.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `support`

from support.scrape_target import page_server
from support.scraped_pool import ScrapedPool, scraped_pool

SETTLE_S = 4.0
"""Both have joined, and have told each other what they read."""


async def bench(address: str, endpoints: int, seconds: float, victim: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with scraped_pool(Path(folder), address, endpoints, replicas=2) as scraped:
            await asyncio.sleep(SETTLE_S)
            await shares(scraped, seconds)
            worst = max(scraped.ages_s())
            scraped.processes[victim].kill()
            began, at = time.monotonic(), 0.0
            while time.monotonic() < began + 6.0:
                await asyncio.sleep(0.05)
                oldest = max(scraped.ages_s())
                if oldest > worst:
                    worst, at = oldest, time.monotonic() - began
            ready, oldest = scraped.ready(), max(scraped.ages_s())
            _say(
                f"one killed: oldest {worst:.2f} s, {at:.1f} s later; {ready} ready, {oldest:.2f} s"
            )


async def shares(scraped: ScrapedPool, seconds: float) -> None:
    before = [(await scraped.scrapes(n), scraped.cpu_s(n)) for n in (0, 1)]
    began, ages = time.monotonic(), list[float]()
    while time.monotonic() < began + seconds:
        await asyncio.sleep(0.25)
        ages += scraped.ages_s()
    took = time.monotonic() - began
    for number, (scrapes, cpu) in enumerate(before):
        rate = (await scraped.scrapes(number) - scrapes) / took
        share = (scraped.cpu_s(number) - cpu) / took
        _say(f"replica {number}: {rate:.0f} scrapes/s, {share:.2f} of a core")
    ages.sort()
    _say(
        f"age on the bus: p50 {ages[len(ages) // 2]:.2f} s, p99 {ages[len(ages) * 99 // 100]:.2f} s"
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--kill", type=int, default=0, choices=(0, 1))
    options = parser.parse_args()
    with page_server() as address:
        uvloop.run(bench(address, options.endpoints, options.seconds, options.kill))


if __name__ == "__main__":
    main()
