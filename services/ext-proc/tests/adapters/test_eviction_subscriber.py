"""Evictions over the bus: which requests of this edge end, and how they are counted and told of."""

import asyncio
from typing import Any

import pytest

from pointsman_common import subjects
from pointsman_common.contracts.flow_pb2 import FlowEvictions
from pointsman_common.testing.builders import POOL
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import settle
from pointsman_ext_proc.adapters.eviction_subscriber import MOST_AT_ONCE, EvictionSubscriber
from pointsman_ext_proc.core.eviction import Eviction


class Streams(dict[str, Any]):
    """Open streams by their lease; those in `begun` have answered."""

    def __init__(self, *open_ones: str, begun: tuple[str, ...] = ()) -> None:
        self.evicted: list[str] = []
        super().__init__({name: self._stream(name, name in begun) for name in open_ones})

    def _stream(self, name: str, begun: bool) -> Any:
        streams = self

        class Stream:
            answered = begun

            def evict(self) -> None:
                streams.evicted.append(name)
                del streams[name]

        return Stream()


@pytest.fixture
async def hear() -> Any:
    """Runs a subscriber over streams and leases; gives what tells it of evictions."""
    tasks: list[asyncio.Task[None]] = []

    async def start(streams: Streams, *leases: str) -> Any:
        bus, seen = InMemoryBus(), list[Eviction]()
        part = EvictionSubscriber(bus, POOL, streams, leases, on_eviction=seen.append)
        tasks.append(asyncio.create_task(part.run()))
        await settle()

        def tell(*lease_ids: str, raw: bytes | None = None) -> list[Eviction]:
            message = FlowEvictions(pool=POOL, lease_ids=lease_ids)
            bus.publish(subjects.flow_evictions(POOL), raw or message.SerializeToString())
            return seen

        return tell

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_only_own_requests_are_ended_and_each_once(hear: Any) -> None:
    streams = Streams("a", "b", "c", begun=("b",))
    tell = await hear(streams, "c", "left")
    tell("a", "of-another-edge", "b")
    tell("b", "a")
    assert streams.evicted == ["a", "b"]
    assert tell("left") == ["refused", "cut", "out-of-reach"]


async def test_one_message_ends_no_more_than_its_bound(hear: Any) -> None:
    names = [f"lease-{number}" for number in range(MOST_AT_ONCE + 10)]
    streams = Streams(*names)
    tell = await hear(streams)
    tell(*names)
    assert streams.evicted == names[:MOST_AT_ONCE]


async def test_what_cannot_be_read_is_passed_over(hear: Any) -> None:
    streams = Streams("a")
    tell = await hear(streams)
    tell(raw=b"\xff\xff")
    tell("a")
    assert streams.evicted == ["a"]
