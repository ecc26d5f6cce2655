"""Learns from the peers what this replica missed of the prefixes, and tells them what it knows."""

import asyncio
from collections.abc import Iterable

from google.protobuf.message import DecodeError

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts.events_pb2 import PrefixPage, PrefixQuery
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.errors import BusUnavailableError
from pointsman_common.structured_log import get_logger
from pointsman_scheduler.core.picking import Picking
from pointsman_scheduler.core.prefix_exchange import PAGE, Page, read_page, take_page

log = get_logger("prefix-peers")

_ANSWER_S = 0.1
_LOOK_S = 0.05
_ASK_AGAIN_S = 1.0
_MOST_TRIES = 3
_AT_A_TIME = 16
"""Endpoints whose pages are asked for at once."""
_MOST_PAGES = 64
"""Of one endpoint; a page holds 16,384 blocks."""


class PrefixPeers:
    """A part of the service. Asks when a pool is first heard of, and when the bus is back."""

    def __init__(self, bus: Bus, clock: Clock, stamp: EnvelopeStamp, picking: Picking) -> None:
        self._bus, self._clock, self._stamp, self._picking = bus, clock, stamp, picking
        self._tries: dict[str, int] = {}
        """Left, by pool."""
        self._asked_at: dict[str, float] = {}
        self.learnt_blocks = 0

    async def run(self) -> None:
        self._bus.on_reconnect(self._tries.clear)
        end = self._bus.respond(subjects.prefix_query(subjects.ALL), self.answer)
        try:
            while True:
                now = self._clock.monotonic()
                for pool in [
                    name for name in self._picking.known_pools() if self._is_due(name, now)
                ]:
                    await self._ask(pool)
                await self._clock.sleep(_LOOK_S)
        finally:
            end()

    def answer(self, subject: str, payload: bytes) -> bytes | None:
        """The page, or the offer, that a peer asks for; `None`: the question is not for here."""
        try:
            query = PrefixQuery.FromString(payload)
        except DecodeError:
            return None
        me, state = self._stamp.publisher, self._picking.pools.get(query.pool)
        if query.envelope.publisher == me or state is None or query.of not in ("", me):
            return None
        page = PrefixPage(
            envelope=self._stamp.next(subject), pool=query.pool, blocks=len(state.index)
        )
        if query.of:
            found = read_page(
                state.index,
                query.endpoint_uid,
                older_than=query.older_than,
                max_bytes=query.max_bytes,
            )
            page.endpoint_uid, page.epoch, page.next = query.endpoint_uid, found.epoch, found.next
            page.prompts.extend(found.prompts)
        return page.SerializeToString()

    def _is_due(self, pool: str, now: float) -> bool:
        if self._tries.get(pool, _MOST_TRIES) <= 0 or not self._bus.connected:
            return False
        return now - self._asked_at.get(pool, float("-inf")) >= _ASK_AGAIN_S

    async def _ask(self, pool: str) -> None:
        self._tries[pool] = self._tries.get(pool, _MOST_TRIES) - 1
        self._asked_at[pool] = self._clock.monotonic()
        state = self._picking.ready_pool(pool)
        if state is None:
            return
        offers = await self._query(pool, PrefixQuery(pool=pool))
        best = max(offers, key=lambda offer: offer.blocks, default=None)
        if best is None or best.blocks <= len(state.index):
            return
        before = len(state.index)
        peer, uids = best.envelope.publisher, list(state.index.epochs())
        for first in range(0, len(uids), _AT_A_TIME):
            some = uids[first : first + _AT_A_TIME]
            await asyncio.gather(*(self._copy(pool, peer, uid) for uid in some))
        self._tries[pool] = 0
        self.learnt_blocks += len(state.index) - before
        log.info("prefixes-learnt", pool=pool, peer=peer, blocks=len(state.index) - before)

    async def _copy(self, pool: str, peer: str, uid: str) -> None:
        older_than = 0
        for _ in range(_MOST_PAGES):
            query = PrefixQuery(
                pool=pool, of=peer, endpoint_uid=uid, older_than=older_than, max_bytes=PAGE
            )
            state, pages = self._picking.pools.get(pool), await self._query(pool, query)
            mine = [page for page in pages if page.endpoint_uid == uid]
            if state is None or not mine:
                return
            page = Page(mine[0].epoch, mine[0].prompts, mine[0].next)
            if not take_page(state.index, uid, page):
                return
            older_than = page.next

    async def _query(self, pool: str, query: PrefixQuery) -> Iterable[PrefixPage]:
        subject = subjects.prefix_query(pool)
        query.envelope.CopyFrom(self._stamp.next(subject))
        pages: list[PrefixPage] = []
        try:
            answers = await self._bus.query(subject, query.SerializeToString(), timeout_s=_ANSWER_S)
        except BusUnavailableError as error:
            log.debug("prefix-query-failed", pool=pool, error=str(error))
            return pages
        for answer in answers:
            try:
                pages.append(PrefixPage.FromString(answer))
            except DecodeError as error:
                log.warning("prefix-page-unreadable", pool=pool, error=str(error))
        return pages
