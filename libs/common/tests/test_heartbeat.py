import asyncio

from pointsman_common import subjects
from pointsman_common.contracts import events_pb2
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.heartbeat import Heartbeat
from pointsman_common.identity import description
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock


class World:
    def __init__(self) -> None:
        self.bus, self.clock = InMemoryBus(), VirtualClock()
        self.pools = ["default/llama"]
        self.heartbeat = Heartbeat(
            self.bus,
            self.clock,
            EnvelopeStamp("ext-proc/a", self.clock),
            describe=lambda: description("ext-proc", "ext-proc/a"),
            address=lambda: "127.0.0.1:9002",
            admin_url=lambda: "http://127.0.0.1:9090",
            pools=lambda: self.pools,
            gauges=lambda: {"streams": 3.0},
            open_leases=lambda: 2,
        )

    def beats(self) -> list[events_pb2.LayerHeartbeat]:
        sent = self.bus.sent(subjects.HEARTBEAT)
        return [events_pb2.LayerHeartbeat.FromString(payload) for payload in sent]


async def run_for(world: World, seconds: float) -> None:
    task = asyncio.create_task(world.heartbeat.run())
    await world.clock.advance(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_replica_says_what_it_is_about_once_a_second() -> None:
    world = World()
    await run_for(world, 3.5)
    beats = world.beats()
    assert [beat.envelope.sequence for beat in beats] == [1, 2, 3, 4]
    last = beats[-1]
    assert last.description.layer == "ext-proc"
    assert (last.address, last.admin_url) == ("127.0.0.1:9002", "http://127.0.0.1:9090")
    assert (list(last.pools), last.open_leases) == (["default/llama"], 2)
    assert dict(last.gauges) == {"streams": 3.0}
    assert not last.draining


async def test_it_says_at_once_that_it_drains_and_goes_on_saying_so() -> None:
    world = World()
    await world.heartbeat.drain(5.0)
    await run_for(world, 1.5)
    assert [beat.draining for beat in world.beats()] == [True, True, True]


async def test_while_the_bus_is_away_no_beats_pile_up_and_the_next_comes_soon_after() -> None:
    world = World()
    world.bus.take_away()
    task = asyncio.create_task(world.heartbeat.run())
    await world.clock.advance(60.0)
    await world.heartbeat.drain(5.0)
    assert world.bus.published == []
    world.bus.bring_back()
    await world.clock.advance(0.2)
    assert len(world.beats()) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
