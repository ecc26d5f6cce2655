"""Where the value of a top-level key stands in a JSON object, to the byte, and how to change it.

Everything else keeps its bytes: the order of keys, the form of numbers, spaces and escapes. The
text must be valid JSON already (a parser has read it): this only looks for boundaries.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN = rb'[^\[\]{}"]++'
_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING_AT = re.compile(_STRING, re.DOTALL)
_SCALAR_AT = re.compile(rb"[^,\]}\s]++")
_BRACKET_AT = re.compile(rb"(?:" + _PLAIN + rb"|" + _STRING + rb")*+([\[\]{}])", re.DOTALL)


def _container(depth: int) -> bytes:
    """A pattern of an array or object that holds at most `depth` levels of others."""
    within = _PLAIN + rb"|" + _STRING + (rb"|" + _container(depth - 1) if depth else b"")
    return rb"[\[{](?:" + within + rb")*+[\]}]"


# An ASCII letter written as an escape: nobody does, and so a key could hide.
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")

# One match of the usual depth of a request is many times faster than a loop over its brackets.
# All repetitions are possessive: nothing is ever tried twice.
_CONTAINER_AT = re.compile(_container(6), re.DOTALL)


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
    return tuple(Splice(start, end - start, inserted) for start, end in value_ranges(body, key))


def size_after(body: bytes, splices: tuple[Splice, ...]) -> int:
    """Bytes of the body with the splices applied."""
    return len(body) + sum(len(splice.inserted) - splice.removed for splice in splices)


def value_ranges(body: bytes, key: str) -> list[tuple[int, int]]:
    """Start and end of the value of each top-level `key` of an object, which has at least one."""
    wanted = f'"{key}"'.encode()
    hidden = b"\\u00" in body and _ESCAPED_LETTER.search(body)
    if not hidden and body.count(wanted) == 1:
        # There is a top-level key, and it can be nowhere else: no need to read what is around it.
        start = _value_start(body, body.index(wanted) + len(wanted))
        return [(start, _value_end(body, start))]
    return list(_scan(body, key, wanted))


def _scan(body: bytes, key: str, wanted: bytes) -> Iterator[tuple[int, int]]:
    at = _after_space(body, _after_space(body, 0) + 1)
    while body[at : at + 1] == b'"':
        name_end = _end_of(_STRING_AT, body, at)
        name = body[at:name_end]
        start = _value_start(body, name_end)
        end = _value_end(body, start)
        if name == wanted or (b"\\" in name and msgspec.json.decode(name) == key):
            yield start, end
        comma = _after_space(body, end)
        at = _after_space(body, comma + 1) if body[comma : comma + 1] == b"," else comma


def _value_start(body: bytes, name_end: int) -> int:
    return _after_space(body, _after_space(body, name_end) + 1)


def _value_end(body: bytes, start: int) -> int:
    first = body[start : start + 1]
    if first == b'"':
        return _end_of(_STRING_AT, body, start)
    if first not in (b"{", b"["):
        return _end_of(_SCALAR_AT, body, start)
    match = _CONTAINER_AT.match(body, start)
    return match.end() if match else _deep_end(body, start)


def _deep_end(body: bytes, start: int) -> int:
    """The end of a container of any depth: bracket by bracket, strings skipped whole."""
    depth, at = 0, start
    while True:
        match = _BRACKET_AT.match(body, at)
        if match is None:
            raise ValueError(f"container at byte {start} does not end")
        at = match.end()
        depth += 1 if match[1] in b"[{" else -1
        if depth == 0:
            return at


def _after_space(body: bytes, at: int) -> int:
    match = _SPACE.match(body, at)
    return match.end() if match else at


def _end_of(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    match = pattern.match(body, at)
    if match is None:
        raise ValueError(f"no JSON value at byte {at}")
    return match.end()
