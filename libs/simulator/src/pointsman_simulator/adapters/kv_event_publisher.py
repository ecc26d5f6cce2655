"""Publishes the engine's KV events over ZeroMQ as vLLM does, and repeats them when asked.

PUB: (topic, sequence as 8 bytes big endian, msgpack batch). ROUTER: a request of 8 bytes names the
first sequence wanted; the answers are (sequence, batch), and at the end -1 with nothing.
"""

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
import zmq
import zmq.asyncio

from pointsman_simulator.core.engine_events import BlocksStored, KvEvent
from pointsman_simulator.core.prompt_blocks import BYTES_PER_TOKEN

BATCHES_KEPT = 10_000
END_OF_REPLAY = (-1).to_bytes(8, "big", signed=True)
MEDIUM = "GPU"


class PromptSource(NamedTuple):
    """What the blocks of a request are made of."""

    prompt: bytes
    lora: str | None
    cache_salt: str


class BlockStored(msgspec.Struct, tag=True, omit_defaults=True):
    """vLLM's, field by field."""

    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    extra_keys: list[list[str] | None] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None


class BlockRemoved(msgspec.Struct, tag=True, omit_defaults=True):
    block_hashes: list[int]
    medium: str | None
    group_idx: int | None = None


class Batch(msgspec.Struct, array_like=True):
    ts: float
    events: list[BlockStored | BlockRemoved]
    data_parallel_rank: int | None


class KvEventPublisher:
    """The publisher of one engine. It is fed from the event loop that it was started in."""

    def __init__(self, block_size: int, topic: str) -> None:
        self._block_size, self._topic = block_size, topic.encode()
        self._encode = msgspec.msgpack.Encoder().encode
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=BATCHES_KEPT)
        self._next = 0
        self._context: zmq.asyncio.Context | None = None
        self._publisher: zmq.Socket[bytes] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, events_url: str, replay_url: str = "") -> None:
        """Bind the sockets. Raises: OSError (zmq.ZMQError), an address is taken."""
        self._context = zmq.asyncio.Context()
        self._publisher = zmq.Socket(self._context, zmq.PUB)
        self._publisher.bind(events_url)
        if replay_url:
            replay = self._context.socket(zmq.ROUTER)
            replay.bind(replay_url)
            self._task = asyncio.ensure_future(self._answer(replay))

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._publisher is not None:
            self._publisher.close(linger=0)
            self._publisher = None
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    def publish(
        self, events: Iterable[KvEvent], source_of: Callable[[str], PromptSource | None]
    ) -> None:
        """Publish what the cache gained and lost, as one batch."""
        told: list[BlockStored | BlockRemoved] = []
        for event in events:
            if not isinstance(event, BlocksStored):
                told.append(BlockRemoved(list(event.block_hashes), MEDIUM, 0))
            elif (source := source_of(event.request_id)) is not None:
                told.append(self._stored(event, source))
        if not told:
            return
        payload = self._encode(Batch(time.time(), told, 0))
        self._kept.append((self._next, payload))
        if self._publisher is not None:
            head = self._next.to_bytes(8, "big")
            self._publisher.send_multipart([self._topic, head, payload], zmq.NOBLOCK)
        self._next += 1

    def _stored(self, event: BlocksStored, source: PromptSource) -> BlockStored:
        count = len(event.block_hashes)
        size = self._block_size * BYTES_PER_TOKEN
        part = source.prompt[event.first_block * size : (event.first_block + count) * size]
        keys: list[str] = [source.lora] if source.lora else []
        salted = [*keys, source.cache_salt] if source.cache_salt else keys
        per_block = [salted if index + event.first_block == 0 else keys for index in range(count)]
        return BlockStored(
            block_hashes=list(event.block_hashes),
            parent_block_hash=event.parent_hash,
            token_ids=list(struct.unpack(f"<{len(part) // BYTES_PER_TOKEN}I", part)),
            block_size=self._block_size,
            lora_id=None,
            medium=MEDIUM,
            lora_name=source.lora,
            extra_keys=[entry or None for entry in per_block],
            group_idx=0,
            kv_cache_spec_kind="full_attention",
        )

    async def _answer(self, replay: zmq.asyncio.Socket) -> None:
        try:
            while True:
                frames = await replay.recv_multipart()
                if len(frames) != 3 or len(frames[2]) != 8:
                    continue
                client, start = frames[0], int.from_bytes(frames[2], "big")
                for sequence, payload in tuple(self._kept):
                    if sequence >= start:
                        head = sequence.to_bytes(8, "big")
                        await replay.send_multipart([client, b"", head, payload])
                await replay.send_multipart([client, b"", END_OF_REPLAY, b""])
        finally:
            replay.close(linger=0)
