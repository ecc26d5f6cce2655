"""What an engine's KV event publisher says: vLLM's msgpack, in the shapes of its versions.

A batch is [ts, events, rank] or a map of them; an event is a map with its `type`, or an array with
it in front. Hashes are integers or bytes, of which the last eight count (source: vLLM
distributed/kv_events.py and v1/core/kv_cache_utils.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

TIERS: Mapping[str, int] = {"GPU": 0, "CPU": 1}
STORAGE = 2
MAX_BLOCKS = 1 << 20
"""In one event; more is nonsense."""

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "BlockStored": (
        "block_hashes",
        "parent_block_hash",
        "token_ids",
        "block_size",
        "lora_id",
        "medium",
        "lora_name",
        "extra_keys",
        "group_idx",
    ),
    "BlockRemoved": ("block_hashes", "medium", "group_idx"),
    "AllBlocksCleared": (),
}


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Consecutive blocks entered the cache."""

    hashes: tuple[int, ...]
    parent: int | None
    """The block before the first; `None`: they begin a prompt."""
    tokens: tuple[int, ...]
    block_tokens: int
    tier: int = 0
    lora: str = ""
    keyed: bool = False
    """The hashes depend on more than tokens and adapter: a salt, an image."""


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    hashes: tuple[int, ...]
    tier: int = 0


@dataclass(frozen=True, slots=True)
class Cleared:
    """All blocks are gone."""


KvEvent = BlocksStored | BlocksRemoved | Cleared


def read_batch(payload: bytes) -> tuple[KvEvent, ...]:
    """Read one batch; events of further cache groups and of unknown types are left out.

    Raises:
        ValueError: it is none.
    """
    try:
        batch = msgspec.msgpack.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"no msgpack: {error}") from error
    if isinstance(batch, dict):
        events = batch.get("events")
    else:
        events = batch[1] if isinstance(batch, list) and len(batch) >= 2 else None
    if not isinstance(events, list):
        raise ValueError("no batch of events")
    read = (_event(item) for item in events)
    return tuple(event for event in read if event is not None)


def _event(item: Any) -> KvEvent | None:
    if isinstance(item, list) and item:
        kind = str(item[0])
        fields: Mapping[str, Any] = dict(zip(_FIELDS.get(kind, ()), item[1:], strict=False))
    elif isinstance(item, dict):
        kind, fields = str(item.get("type")), item
    else:
        raise ValueError("an event is neither a map nor an array")
    if kind == "AllBlocksCleared":
        return Cleared()
    if kind not in _FIELDS or fields.get("group_idx"):
        # The first group is the one with full attention, by which prefixes are found.
        return None
    hashes = tuple(_hash(value) for value in _listed(fields.get("block_hashes")))
    medium = fields.get("medium")
    tier = TIERS.get(str(medium).upper(), STORAGE) if medium else 0
    if kind == "BlockRemoved":
        return BlocksRemoved(hashes, tier)
    tokens, size = tuple(_listed(fields.get("token_ids"))), fields.get("block_size")
    if not isinstance(size, int) or not 0 < size <= MAX_BLOCKS:
        raise ValueError(f"block size {size!r}")
    if not all(isinstance(token, int) and 0 <= token < 1 << 32 for token in tokens):
        raise ValueError("a token id is no unsigned 32-bit number")
    parent, lora = fields.get("parent_block_hash"), str(fields.get("lora_name") or "")
    keys = fields.get("extra_keys")
    others = {key for entry in keys or () for key in entry or () if key != lora}
    return BlocksStored(
        hashes,
        None if parent is None else _hash(parent),
        tokens,
        size,
        tier,
        lora or _lora_by_id(fields.get("lora_id")),
        keyed=bool(others),
    )


def _lora_by_id(lora_id: Any) -> str:
    return f"lora-id-{lora_id}" if lora_id is not None else ""


def _listed(value: Any) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > MAX_BLOCKS:
        raise ValueError("a list is missing, or too long")
    return value


def _hash(value: Any) -> int:
    if isinstance(value, bytes):
        return int.from_bytes(value[-8:], "big")
    if isinstance(value, int):
        return value & (1 << 64) - 1
    raise ValueError(f"block hash {value!r}")
