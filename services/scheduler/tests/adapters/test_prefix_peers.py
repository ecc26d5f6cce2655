import asyncio
from dataclasses import replace
from random import Random

from pointsman_common import subjects
from pointsman_common.contracts.events_pb2 import PrefixPage, PrefixQuery
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_scheduler.adapters.prefix_peers import PrefixPeers
from pointsman_scheduler.core.picking import StateLimits
from pointsman_scheduler.testing import Desk


def a_desk(**limits: int) -> Desk:
    some = [an_endpoint(1), an_endpoint(2)]
    return Desk(some, limits=StateLimits(fresh_s=1.0, half_life_s=5.0, **limits))


def peers(bus: InMemoryBus, name: str, desk: Desk, clock: VirtualClock) -> PrefixPeers:
    return PrefixPeers(bus, clock, EnvelopeStamp(f"scheduler/{name}", clock), desk.picking)


async def with_parts(clock: VirtualClock, *parts: PrefixPeers, seconds: float = 1.0) -> None:
    """Let the parts run for so long."""
    tasks = [asyncio.create_task(part.run()) for part in parts]
    for _ in range(round(seconds / 0.05)):
        await clock.advance(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_new_replica_knows_within_a_second_what_its_peer_knows() -> None:
    bus, clock, old, new = InMemoryBus(), VirtualClock(), a_desk(), a_desk()
    rng = Random(1)
    prompts = [[rng.getrandbits(64) for _ in range(rng.randint(1, 40))] for _ in range(100)]
    for prompt in prompts:
        old.pick(block_hashes=prompt)
    await with_parts(clock, peers(bus, "old", old, clock), peers(bus, "new", new, clock))
    index, copy = old.picking.pools[POOL].index, new.picking.pools[POOL].index
    assert len(copy) == len(index) > 1000
    for prompt in prompts:
        assert copy.match(prompt).tolist() == index.match(prompt).tolist()


async def test_what_was_heard_meanwhile_is_younger_and_stays() -> None:
    bus, clock, old = InMemoryBus(), VirtualClock(), a_desk()
    new = a_desk(max_blocks=20)  # 10 for each endpoint
    for number in range(40):
        old.pick(block_hashes=[number])
    new.pick(block_hashes=[1000, 1001])
    await with_parts(clock, peers(bus, "old", old, clock), peers(bus, "new", new, clock))
    copy = new.picking.pools[POOL].index
    assert len(copy) == 20
    assert copy.match([1000, 1001]).max() == 2
    assert copy.match([39]).max() == 1  # the last used of the peer's
    assert copy.match([0]).max() == 0


async def test_of_a_restarted_engine_nothing_is_learnt() -> None:
    bus, clock, old, new = InMemoryBus(), VirtualClock(), a_desk(), a_desk()
    for number in range(10):
        old.pick(block_hashes=[number])
    new.say([replace(an_endpoint(number), epoch=1) for number in (1, 2)])
    await with_parts(clock, peers(bus, "old", old, clock), peers(bus, "new", new, clock))
    assert len(new.picking.pools[POOL].index) == 0


async def test_nobody_answers_itself_nor_for_another() -> None:
    bus, clock, desk = InMemoryBus(), VirtualClock(), a_desk()
    part = peers(bus, "one", desk, clock)
    desk.pick(block_hashes=[1])
    subject = subjects.prefix_query(POOL)

    def asked(publisher: str, of: str, pool: str = POOL) -> bytes | None:
        query = PrefixQuery(pool=pool, of=of)
        query.envelope.publisher = publisher
        return part.answer(subject, query.SerializeToString())

    assert asked("scheduler/one", "") is None
    assert asked("scheduler/two", "scheduler/three") is None
    assert asked("scheduler/two", "", "default/none") is None
    assert part.answer(subject, b"\xff\xff") is None
    offer = asked("scheduler/two", "")
    assert offer is not None
    assert PrefixPage.FromString(offer).blocks == 1


async def test_a_pool_without_peers_is_asked_for_a_few_times_only() -> None:
    bus, clock, desk = InMemoryBus(), VirtualClock(), a_desk()
    asked: list[bytes] = []
    bus.respond(subjects.prefix_query(POOL), lambda _, payload: asked.append(payload))
    await with_parts(clock, peers(bus, "one", desk, clock), seconds=10.0)
    assert len(asked) == 3
