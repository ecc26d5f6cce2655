"""Listens to the reports of shadows on the bus, for a while."""

import asyncio

from google.protobuf.message import DecodeError

from pointsman_cli.adapters.datalayer_rest import AskError
from pointsman_common import subjects
from pointsman_common.clock import SystemClock
from pointsman_common.contracts.events_pb2 import ShadowReport
from pointsman_common.nats_bus import NatsBus

CONNECT_S = 5.0
MOST_REPORTS = 10_000


async def hear_reports(bus_url: str, *, pool: str, seconds: float) -> list[ShadowReport]:
    """All that shadows report of a pool, or of every pool, within so many seconds.

    Raises:
        AskError: the bus cannot be reached.
    """
    clock, reports = SystemClock(), list[ShadowReport]()
    bus = NatsBus(bus_url, clock, name="pointsman-cli")

    def hear(_: str, payload: bytes) -> None:
        try:
            report = ShadowReport.FromString(payload)
        except DecodeError:
            return  # a shadow may say anything
        if len(reports) < MOST_REPORTS:
            reports.append(report)

    bus.subscribe(subjects.shadow(pool or subjects.ALL, subjects.ALL), hear)
    running = asyncio.create_task(bus.run())
    try:
        async with asyncio.timeout(CONNECT_S):
            while not bus.connected and not running.done():
                await clock.sleep(0.01)
        if not bus.connected:
            await running
        await clock.sleep(seconds)
    except TimeoutError as error:
        raise AskError(f"no bus at {bus_url}") from error
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return reports
