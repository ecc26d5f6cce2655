import asyncio
from collections.abc import Iterable

from pointsman_common import subjects
from pointsman_common.contracts.events_pb2 import KvBlock, KvEvents
from pointsman_common.testing.builders import POOL, an_endpoint
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_scheduler.adapters.kv_event_subscriber import KvEventSubscriber
from pointsman_scheduler.metrics import Metrics
from pointsman_scheduler.testing import Desk


class Engine:
    """Tells of its cache; a scheduler listens."""

    def __init__(self) -> None:
        self.bus, self.metrics = InMemoryBus(), Metrics()
        self.desk = Desk([an_endpoint(1), an_endpoint(2)])
        self._sequence = 0

    async def __aenter__(self) -> "Engine":
        part = KvEventSubscriber(self.bus, self.desk.picking, self.metrics)
        self._task = asyncio.create_task(part.run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def tell(
        self,
        *,
        stored: Iterable[int] = (),
        removed: Iterable[int] = (),
        cleared: bool = False,
        chain: str = "router",
        block_tokens: int = 64,
        again: bool = False,
        uid: str = "e1",
    ) -> None:
        self._sequence += not again
        event = KvEvents(
            pool=POOL,
            endpoint_uid=uid,
            stored=[KvBlock(hash=block) for block in stored],
            removed=list(removed),
            cleared=cleared,
            chain=chain,
            block_tokens=block_tokens,
        )
        event.envelope.publisher, event.envelope.epoch = "datalayer/a", 1
        event.envelope.sequence = self._sequence
        self.bus.publish(subjects.kv_events(POOL, uid), event.SerializeToString())

    def cached(self, *prompt: int) -> list[float]:
        pick = self.desk.pick(block_hashes=list(prompt))
        assert pick.candidates is not None
        found: list[float] = pick.candidates.cached_blocks.tolist()
        for uid in ("e1", "e2"):  # the question itself was indexed
            self.desk.picking.pools[POOL].index.remove(uid, prompt[int(max(found)) :])
        return found


async def test_what_an_engine_stored_counts_and_what_it_dropped_does_not() -> None:
    async with Engine() as engine:
        engine.tell(stored=[1, 2, 3])
        assert engine.cached(1, 2, 3, 4) == [3, 0]
        engine.tell(removed=[3])
        assert engine.cached(1, 2, 3)[0] == 2
        engine.tell(cleared=True, stored=[9])
        assert engine.cached(9) == [1, 0]
        assert (
            engine.metrics.registry.get_sample_value("pointsman_scheduler_kv_event_blocks_total")
            == 3 + 1 + 1
        )


async def test_hashes_that_no_prompt_can_have_are_left_out() -> None:
    async with Engine() as engine:
        engine.tell(stored=[1], chain="sha256_cbor")
        engine.tell(stored=[1], block_tokens=16)
        engine.tell(stored=[1], uid="e9")
        assert engine.cached(1) == [0, 0]


async def test_a_repeated_message_is_ignored_and_a_gap_is_counted() -> None:
    async with Engine() as engine:
        engine.tell(stored=[1])
        engine.tell(removed=[1], again=True)
        assert engine.cached(1) == [1, 0]
        engine._sequence += 5
        engine.tell(stored=[2])
        gaps = engine.metrics.registry.get_sample_value("pointsman_scheduler_kv_event_gaps_total")
        assert gaps == 1


async def test_a_message_that_is_none_is_left_out() -> None:
    async with Engine() as engine:
        engine.bus.publish(subjects.kv_events(POOL, "e1"), b"\xff\xff\xff")
        engine.tell(stored=[1])
        assert engine.cached(1) == [1, 0]


async def test_a_hostile_list_of_blocks_stays_within_the_share_of_its_endpoint() -> None:
    async with Engine() as engine:
        engine.tell(stored=range(1, 100_000))
        index = engine.desk.picking.pools[POOL].index
        assert index.held("e1") <= 31_250
        engine.tell(removed=range(1, 100_000))
        assert len(index) == 0
