"""A bounded cache whose entries end: times are the caller's monotonic seconds."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """At most `capacity` entries, of which the one used longest ago goes first."""

    def __init__(self, *, capacity: int, ttl_s: float) -> None:
        self._capacity, self._ttl_s = capacity, ttl_s
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K, now: float) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, now: float) -> None:
        if self._capacity <= 0:
            return
        self._entries[key] = value, now + self._ttl_s
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
