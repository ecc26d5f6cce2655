"""One connection of a channel, made again whenever it is lost.

    idle --connect--> dialling --greeted--> ready --GOAWAY, loss--> dialling
                       |     ^--backoff over--|
                       '--failed--> waiting --'   (cut short by a call, see `connect_for_call`)
    any --leave--> left, as soon as its calls have ended

A connection that says GOAWAY is replaced at once; its calls end on it. One that is lost young and
before it carried a call counts as a failed dial, or a server that closes what it accepts would be
dialled without a pause.
"""

import asyncio
from collections.abc import Callable
from random import Random

from wire.address import Endpoint
from wire.asyncio_io.dialler import ClientProtocol, Dialler
from wire.balancing.backoff import Backoff, BackoffRules
from wire.grpc.request_heads import RequestHeads
from wire.status import RpcError, RpcStatus


class Subchannel:
    """`on_change` is called when it becomes ready or stops being so, when it has room again, when a
    dial fails, and when the last connection of one that has left is gone."""

    def __init__(
        self,
        endpoint: Endpoint,
        heads: RequestHeads,
        dialler: Dialler,
        *,
        backoff: BackoffRules,
        rng: Random,
        on_change: Callable[["Subchannel"], None],
    ) -> None:
        self.endpoint, self.heads = endpoint, heads
        self.protocol: ClientProtocol | None = None
        """The connection that takes calls."""
        self.failure: RpcError | None = None
        """Why there is none, when the last dial failed."""
        self.leaving: set[ClientProtocol] = set()
        """Connections that take no further calls and have some open still."""
        self._dialler, self._on_change = dialler, on_change
        self._backoff = Backoff(backoff, rng)
        self._young_s, self._pause_s = backoff.longest_s, backoff.first_s
        self._dialling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ready_since = self._failed_at = float("-inf")
        self._has_left = False

    @property
    def open_calls(self) -> int:
        return 0 if self.protocol is None else len(self.protocol.connection.streams)

    @property
    def has_room(self) -> bool:
        return self.protocol is not None and self.protocol.connection.has_room

    @property
    def is_dialling(self) -> bool:
        return self._dialling is not None

    def connect(self) -> None:
        """Dial, unless there is a connection or a dial under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._dialling is None and self.protocol is None and not self._has_left:
            self._dialling = asyncio.get_running_loop().create_task(self._dial())

    def connect_for_call(self, now: float) -> None:
        """For a call that would fail else: dial ahead of time, but for the shortest pause. The
        server may be back by now."""
        if now - self._failed_at >= self._pause_s:
            self.connect()

    def leave(self) -> None:
        """Take no further calls; those that are open go on to their end."""
        self._has_left = True
        if self._timer is not None:
            self._timer.cancel()
        if self._dialling is not None:
            self._dialling.cancel()
        if (protocol := self.protocol) is not None:
            protocol.connection.drain()  # leads to `_changed`
            protocol.flush()

    async def _dial(self) -> None:
        try:
            protocol = await self._dialler.dial(self.endpoint, self._changed)
        except RpcError as error:
            self._failed(error)
        except Exception as error:
            self._failed(RpcError(RpcStatus.UNAVAILABLE, f"{self.endpoint}: {error!r}"))
        else:
            self.protocol, self.failure = protocol, None
            self._ready_since = protocol.loop.time()
        finally:
            self._dialling = None
            self._on_change(self)

    def _failed(self, failure: RpcError) -> None:
        self.failure = failure
        if not self._has_left:
            loop, wait_s = asyncio.get_running_loop(), self._backoff.next_wait_s()
            self._failed_at = loop.time()
            self._timer = loop.call_later(wait_s, self.connect)

    def _changed(self) -> None:
        """Called by a connection: also by one under way, and by those left."""
        protocol = self.protocol
        if protocol is None:
            return
        if not protocol.connection.is_usable:
            self._part_from(protocol)
            age_s = protocol.loop.time() - self._ready_since
            if protocol.connection.has_carried or age_s > self._young_s:
                self._backoff.reset()
                self.connect()
            else:
                reason = protocol.connection.close_reason or "left by the server at once"
                self._failed(RpcError(RpcStatus.UNAVAILABLE, f"{self.endpoint}: {reason}"))
        self._on_change(self)

    def _part_from(self, protocol: ClientProtocol) -> None:
        self.protocol = None
        self.leaving.add(protocol)
        protocol.lost.add_done_callback(lambda _: self._parted(protocol))

    def _parted(self, protocol: ClientProtocol) -> None:
        self.leaving.discard(protocol)
        if self._has_left:
            self._on_change(self)
