"""Changes to the bytes of a JSON body that leave every other byte as it was.

The order of keys, the form of numbers, spaces and escapes stay. Nothing is decoded and encoded
again but the values that are changed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from pointsman_router.core.json_places import after_bracket, members, place_of_only, places_of


@dataclass(frozen=True, slots=True)
class Splice:
    """`removed` bytes from `offset` give way to `inserted`."""

    offset: int
    removed: int
    inserted: bytes


def replace_value(body: bytes, key: str, value: object) -> tuple[Splice, ...]:
    """Put another value in the place of each top-level `key`; the object must have one.

    A key that stands twice is replaced twice, so that it does not matter which one a reader takes.
    """
    inserted = msgspec.json.encode(value)
    only = place_of_only(body, key)
    if only is not None:
        return (Splice(only[0], only[1] - only[0], inserted),)
    return tuple([Splice(start, end - start, inserted) for start, end in places_of(body, key)])


def set_members(body: bytes, values: Mapping[str, bytes]) -> tuple[Splice, ...]:
    """Give top-level keys other values, each as JSON; keys that are not there come first."""
    found = members(body)
    splices = [
        Splice(start, end - start, values[name]) for name, start, end in found if name in values
    ]
    missing = values.keys() - {name for name, _, _ in found}
    added = [
        msgspec.json.encode(name) + b":" + value
        for name, value in values.items()
        if name in missing
    ]
    if added:
        written = b",".join(added) + (b"," if found else b"")
        splices.insert(0, Splice(after_bracket(body), 0, written))
    return tuple(splices)


def applied(body: bytes, splices: Iterable[Splice]) -> bytes:
    """The body with the splices applied, which are ascending and do not overlap."""
    pieces: list[bytes] = []
    at = 0
    for splice in splices:
        pieces += (body[at : splice.offset], splice.inserted)
        at = splice.offset + splice.removed
    pieces.append(body[at:])
    return b"".join(pieces)


def difference(before: bytes, after: bytes) -> tuple[Splice, ...]:
    """One splice that turns one text into the other, as short as one can be."""
    if before == after:
        return ()
    shorter = min(len(before), len(after))
    head = _common(shorter, lambda length: before[:length] == after[:length])
    tail = _common(
        shorter - head,
        lambda length: before[len(before) - length :] == after[len(after) - length :],
    )
    return (Splice(head, len(before) - head - tail, after[head : len(after) - tail]),)


def size_after(body: bytes, splices: tuple[Splice, ...]) -> int:
    """Bytes of the body with the splices applied."""
    return len(body) + sum(len(splice.inserted) - splice.removed for splice in splices)


def _common(most: int, equal: Callable[[int], bool]) -> int:
    """The greatest length up to `most` at which two texts are equal, by bisection."""
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        if equal(middle):
            low = middle
        else:
            most = middle - 1
    return low
