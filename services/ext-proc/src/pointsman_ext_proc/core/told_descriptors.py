"""Whether picks are told of with their requests' descriptors, which shadow schedulers read.

A descriptor may hold thousands of block hashes, so what is sent is bounded: no shadow may make the
edge send more than so much with an event.
"""

from typing import Literal

from pointsman_common.contracts.routing_pb2 import RequestDescriptor

WANTED_S = 15.0
"""How long a shadow's wish holds."""

MAX_BLOCKS = 2048
"""Of a prompt, from its start: as many as schedulers match by default."""

MAX_BYTES = 8192
"""Of the descriptor without its block hashes."""

_HASH_BYTES = 8

When = Literal["auto", "always", "never"]


class ToldDescriptors:
    """`auto`: while a shadow is heard that wants them."""

    def __init__(self, when: When) -> None:
        self.when: When = when
        self._wanted_until = float("-inf")
        self.told = self.cut = self.left_out = 0
        """Sent; those of them whose block hashes were cut; those that were too large."""

    def wish(self, now: float) -> None:
        """A shadow wants them. `now` is in monotonic seconds, here and below."""
        self._wanted_until = now + WANTED_S

    def wanted(self, now: float) -> bool:
        return self.when == "always" or (self.when == "auto" and now < self._wanted_until)

    def of(self, descriptor: RequestDescriptor, now: float) -> RequestDescriptor | None:
        """What to send of a descriptor; `None`: nothing."""
        if not self.wanted(now):
            return None
        hashes = descriptor.prompt_block_hashes
        if descriptor.ByteSize() - len(hashes) > MAX_BYTES:
            self.left_out += 1
            return None
        self.told += 1
        if len(hashes) <= MAX_BLOCKS * _HASH_BYTES:
            return descriptor
        self.cut += 1
        short = RequestDescriptor()
        short.CopyFrom(descriptor)
        short.prompt_block_hashes = hashes[: MAX_BLOCKS * _HASH_BYTES]
        return short
