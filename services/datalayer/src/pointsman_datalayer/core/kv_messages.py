"""From an engine's events to the messages that tell them on the bus.

A message clears first, then stores, then removes; it has one chain, one adapter and one block size.
The router's chain is used where it can be told (see router_chain.py), else the engine's own hashes,
which only a reader that knows the engine can use.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from pointsman_common.contracts.events_pb2 import KvBlock, KvEvents
from pointsman_datalayer.core.kv_event_batch import BlocksRemoved, BlocksStored, Cleared, KvEvent
from pointsman_datalayer.core.router_chain import RouterChain

ROUTER = "router"
MAX_BLOCKS = 100_000
"""In one message, whose size is then about a megabyte."""


@dataclass(slots=True)
class EndpointKv:
    """What one endpoint of one pool has told; `engine` names its own chain."""

    pool: str
    endpoint_uid: str
    engine: str
    base_model: str
    """By which requests name it; empty: not known, and the router's chain cannot be told."""
    block_tokens: int
    """Of the pool."""
    _chain: RouterChain = field(init=False)
    _size: int = 0

    def __post_init__(self) -> None:
        self._chain = RouterChain(self.block_tokens)

    def messages(
        self, events: Iterable[KvEvent], engine_sequence: int, *, cleared: bool = False
    ) -> list[KvEvents]:
        """The messages of one batch, but for their envelopes."""
        told: list[KvEvents] = []
        if cleared:
            self._clear(told)
        for event in events:
            if isinstance(event, Cleared):
                self._clear(told)
            elif isinstance(event, BlocksRemoved):
                self._remove(told, event)
            else:
                self._store(told, event)
        for message in told:
            message.engine_sequence = engine_sequence
        return told

    def _clear(self, told: list[KvEvents]) -> None:
        self._chain.clear()
        told.append(self._message(ROUTER, "", self.block_tokens, cleared=True))

    def _store(self, told: list[KvEvents], event: BlocksStored) -> None:
        self._size = event.block_tokens
        model = event.lora or self.base_model
        ours = self._chain.store(event, model) if model and event.tier == 0 else None
        if ours is None:
            message = self._open(told, self.engine, event.lora, event.block_tokens, storing=True)
            hashes: Iterable[int] = event.hashes
        elif not ours:
            return
        else:
            message = self._open(told, ROUTER, event.lora, self.block_tokens, storing=True)
            hashes = ours
        message.stored.extend(KvBlock(hash=value, tier=event.tier) for value in hashes)

    def _remove(self, told: list[KvEvents], event: BlocksRemoved) -> None:
        if event.tier == 0 and (ours := self._chain.remove(event.hashes)):
            self._open(told, ROUTER, "", self.block_tokens, storing=False).removed.extend(ours)
        message = self._open(told, self.engine, "", self._size, storing=False)
        message.removed.extend(event.hashes)

    def _open(
        self, told: list[KvEvents], chain: str, lora: str, block_tokens: int, *, storing: bool
    ) -> KvEvents:
        """The last message, if what comes next may be added to it."""
        last = told[-1] if told else None
        if (
            last is not None
            and (last.chain, last.lora if storing else "", last.block_tokens)
            == (chain, lora, block_tokens)
            and not (storing and last.removed)
            and len(last.stored) + len(last.removed) < MAX_BLOCKS
        ):
            return last
        told.append(self._message(chain, lora, block_tokens))
        return told[-1]

    def _message(
        self, chain: str, lora: str, block_tokens: int, *, cleared: bool = False
    ) -> KvEvents:
        return KvEvents(
            pool=self.pool,
            endpoint_uid=self.endpoint_uid,
            cleared=cleared,
            chain=chain,
            lora=lora,
            block_tokens=block_tokens,
        )
