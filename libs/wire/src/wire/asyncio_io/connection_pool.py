"""The connections of one channel: one to each address, and which takes the next call.

Nothing is dialled before the first call; from then on each address is kept connected. Addresses
that names no longer stand for are left: their open calls go on to the end.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from random import Random

from wire.address import Endpoint, Target
from wire.asyncio_io.address_watch import AddressWatch
from wire.asyncio_io.dialler import ClientProtocol, Dialler
from wire.asyncio_io.subchannel import Subchannel
from wire.balancing.address_book import Changes
from wire.balancing.backoff import BackoffRules
from wire.balancing.balancer import Balancer
from wire.balancing.rules import BalancingRules
from wire.grpc.request_heads import RequestHeads
from wire.resolver import Resolver
from wire.status import RpcError, RpcStatus

_REASONS_TOLD = 3


class ConnectionPool:
    def __init__(
        self,
        targets: Sequence[Target],
        dialler: Dialler,
        *,
        rules: BalancingRules,
        backoff: BackoffRules,
        resolver: Resolver,
        rng: Random,
    ) -> None:
        self._dialler, self._rules, self._backoff, self._rng = dialler, rules, backoff, rng
        self._watch = AddressWatch(
            targets, rules=rules, resolver=resolver, rng=rng, on_changes=self._on_addresses
        )
        self._balancer = Balancer[Subchannel](rules.ejection, rng)
        self._subchannels: dict[Endpoint, list[Subchannel]] = {}
        self._left: set[Subchannel] = set()
        self._heads: dict[str, RequestHeads] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    @property
    def protocols(self) -> list[ClientProtocol]:
        """All connections, those left included."""
        return [
            protocol
            for subchannel in [*self._all(), *self._left]
            for protocol in (subchannel.protocol, *subchannel.leaving)
            if protocol is not None
        ]

    # -- calls

    @property
    def is_wary(self) -> bool:
        """A connection failed of late: calls that end well are to be told, too."""
        return self._balancer.has_failures

    def pick(self, now: float) -> Subchannel | None:
        """The connection for a call that begins now; `None`: `wait_for` one."""
        subchannel = self._balancer.pick(now)
        return subchannel if subchannel is not None and subchannel.has_room else None

    async def wait_for(
        self, deadline: float | None, *, avoid: Subchannel | None = None
    ) -> Subchannel:
        """A connection with room: not `avoid`, if there is another.

        Raises:
            RpcError: UNAVAILABLE when no address takes connections, DEADLINE_EXCEEDED while
                waiting for one, or for room.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                if not self._watch.has_started and not self._is_closed:
                    self._watch.start()
                for subchannel in self._all():
                    subchannel.connect_for_call(loop.time())
                while (found := self._pick_with_room(loop.time(), avoid)) is None:
                    self._check_hope()
                    await self._wait_for_change(loop)
                return found
        except TimeoutError as error:
            message = "no connection, or no room on it, within the deadline"
            raise RpcError(RpcStatus.DEADLINE_EXCEEDED, message) from error

    def ended(self, subchannel: Subchannel, status: RpcStatus, now: float) -> None:
        """A call ended: UNAVAILABLE has its connection passed over for a while."""
        if status is RpcStatus.UNAVAILABLE:
            self._balancer.failed(subchannel, now)
        elif status is RpcStatus.OK:
            self._balancer.succeeded(subchannel, now)

    async def close(self) -> None:
        """Leave all connections; their calls have been ended."""
        self._is_closed = True
        await self._watch.stop()
        for subchannel in self._all():
            subchannel.leave()
        protocols = self.protocols
        for protocol in protocols:
            protocol.flush()
        self._wake_waiters()
        if protocols:
            await asyncio.wait([protocol.lost for protocol in protocols], timeout=1.0)

    def _pick_with_room(self, now: float, avoid: Subchannel | None) -> Subchannel | None:
        def has_room(subchannel: Subchannel) -> bool:
            return subchannel is not avoid and subchannel.has_room

        found = self._balancer.pick_among(now, has_room)
        return avoid if found is None and avoid is not None and avoid.has_room else found

    def _check_hope(self) -> None:
        """Raises RpcError when nothing is under way that could end a wait for a connection."""
        if self._is_closed:
            raise RpcError(RpcStatus.CANCELLED, "the channel is closed")
        subchannels = self._all()
        if self._watch.is_first or any(
            subchannel.protocol is not None or subchannel.is_dialling for subchannel in subchannels
        ):
            return
        reasons = {
            subchannel.failure.message: None
            for subchannel in subchannels
            if subchannel.failure is not None
        }
        told = [*reasons][:_REASONS_TOLD] or [self._watch.failure]
        if len(reasons) > _REASONS_TOLD:
            told.append(f"and {len(reasons) - _REASONS_TOLD} more")
        raise RpcError(RpcStatus.UNAVAILABLE, "; ".join(told))

    # -- addresses

    def _all(self) -> list[Subchannel]:
        return [subchannel for group in self._subchannels.values() for subchannel in group]

    def _on_addresses(self, changes: Changes) -> None:
        for endpoint in changes.added:
            group = [self._subchannel(endpoint) for _ in range(self._rules.connections_per_address)]
            self._subchannels[endpoint] = group
            for subchannel in group:
                subchannel.connect()
        for endpoint in changes.removed:
            for subchannel in self._subchannels.pop(endpoint):
                self._left.add(subchannel)
                subchannel.leave()
                self._on_change(subchannel)
        self._wake_waiters()

    def _subchannel(self, endpoint: Endpoint) -> Subchannel:
        authority = self._dialler.authority(endpoint)
        heads = self._heads.get(authority)
        if heads is None:
            heads = RequestHeads(authority=authority, scheme=self._dialler.scheme)
            self._heads[authority] = heads
        return Subchannel(
            endpoint,
            heads,
            self._dialler,
            backoff=self._backoff,
            rng=self._rng,
            on_change=self._on_change,
        )

    def _on_change(self, subchannel: Subchannel) -> None:
        now = asyncio.get_running_loop().time()
        if subchannel in self._left:
            self._balancer.forget(subchannel, now)
            if not subchannel.leaving:
                self._left.discard(subchannel)
        else:
            self._balancer.set_ready(subchannel, subchannel.protocol is not None, now)
            if subchannel.failure is not None:
                self._watch.hurry()
        self._wake_waiters()

    # -- waiting

    async def _wait_for_change(self, loop: asyncio.AbstractEventLoop) -> None:
        waiter = loop.create_future()
        self._waiters.append(waiter)
        self._ask_for_room()
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake_waiters(self) -> None:
        """As many as there is room for; all of them when there is no connection."""
        if not self._waiters:
            return
        ready = self._balancer.ready
        room = sum(map(_room, ready)) if ready else len(self._waiters)
        while self._waiters and room > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                room -= 1
        self._ask_for_room()

    def _ask_for_room(self) -> None:
        for subchannel in self._balancer.ready:
            if subchannel.protocol is not None:
                subchannel.protocol.connection.wants_room = bool(self._waiters)


def _room(subchannel: Subchannel) -> int:
    if subchannel.protocol is None:
        return 0
    connection = subchannel.protocol.connection
    return connection.peer.max_concurrent_streams - len(connection.streams)
