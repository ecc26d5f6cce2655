"""Asks for the names of a channel, again and again, and tells what changed."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from wire.address import Target, TcpAddress
from wire.balancing.address_book import AddressBook, Changes, ResolutionSchedule
from wire.balancing.rules import BalancingRules
from wire.resolver import Resolver


class AddressWatch:
    """`on_changes` is told of fixed addresses at once, of others when they are found or gone, and
    (without changes) when a name could not be resolved."""

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        rules: BalancingRules,
        resolver: Resolver,
        rng: Random,
        on_changes: Callable[[Changes], None],
    ) -> None:
        self._book = AddressBook(targets, max_addresses_per_name=rules.max_addresses_per_name)
        self._schedule = ResolutionSchedule(rules, rng)
        self._rules, self._resolver, self._on_changes = rules, resolver, on_changes
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self.has_started = False
        self.is_first = bool(self._book.names)
        """Names have not been asked for yet, or not been answered."""
        self.failure = ""
        """Why names could not be resolved when last asked for."""

    def start(self) -> None:
        self.has_started = True
        self._on_changes(self._book.take_changes())
        if self._book.names:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def hurry(self) -> None:
        """A connection failed: perhaps its address is gone."""
        self._hurry.set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            failures = await asyncio.gather(*map(self._ask, self._book.names))
            self.failure = "; ".join(filter(None, failures))
            self._schedule.asked(loop.time(), is_answered=not self.failure)
            self.is_first = False
            self._on_changes(self._book.take_changes())
            while (left_s := self._schedule.due_at - loop.time()) > 0:
                await self._wait(left_s)

    async def _wait(self, left_s: float) -> None:
        try:
            async with asyncio.timeout(left_s):
                await self._hurry.wait()
        except TimeoutError:
            return
        self._hurry.clear()
        self._schedule.hurry()

    async def _ask(self, name: Target) -> str:
        """Learn what a name stands for; why not, if not."""
        address = name.address
        assert isinstance(address, TcpAddress)  # noqa: S101  (others are no names)
        try:
            async with asyncio.timeout(self._rules.resolve_timeout_s):
                found = await self._resolver.resolve(address.host, address.port)
        except TimeoutError:
            return f"{address}: the name was not resolved in time"
        except Exception as error:
            return f"{address}: the name was not resolved: {error}"
        self._book.learn(name, found)
        return "" if found else f"{address}: the name stands for no address"
