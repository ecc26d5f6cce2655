"""What replicas of the scheduler tell each other of the prefix index, page by page.

Benchmark: none; a new replica asks once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack, unpack

from pointsman_scheduler.core.prefix_index import PrefixIndex

SMALLEST_PAGE, PAGE, LARGEST_PAGE = 16_384, 131_072, 524_288
"""Bytes of block hashes. The largest must fit a message of the bus."""
_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Page:
    """Prompts of one endpoint, last used first."""

    epoch: int
    """Of the endpoint, times that its engine was seen to restart."""
    prompts: Sequence[bytes]
    """Block hashes, first block first, little endian."""
    next: int
    """Where the next page begins; 0: there is none."""


def read_page(index: PrefixIndex, uid: str, *, older_than: int, max_bytes: int) -> Page:
    """The page of an endpoint that begins at `older_than` (0: at the prompt used last), of about
    `max_bytes` (0: PAGE)."""
    room = min(max(max_bytes or PAGE, SMALLEST_PAGE), LARGEST_PAGE)
    prompts: list[bytes] = []
    last = 0
    for stamp, hashes in index.prompts(uid, older_than=older_than or None):
        head = hashes[: LARGEST_PAGE // _HASH_BYTES]
        if prompts and room < _HASH_BYTES * len(head):
            return Page(index.epochs().get(uid, 0), prompts, last)
        prompts.append(pack(f"<{len(head)}Q", *head))
        room -= _HASH_BYTES * len(head)
        last = stamp
    return Page(index.epochs().get(uid, 0), prompts, 0)


def take_page(index: PrefixIndex, uid: str, page: Page) -> bool:
    """Note what a peer knows, as older than all that is known here.

    Returns whether more is of use: the endpoint has room, and there is another page. An endpoint
    whose engine has restarted since, here or there, holds nothing of it.
    """
    if index.epochs().get(uid) != page.epoch:
        return False
    for prompt in page.prompts:
        blocks = len(prompt) // _HASH_BYTES
        if not index.insert_older(uid, unpack(f"<{blocks}Q", prompt[: blocks * _HASH_BYTES])):
            return False
    return bool(page.next)
