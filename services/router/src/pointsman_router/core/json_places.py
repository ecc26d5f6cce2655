"""Where the parts of a JSON text stand, to the byte.

The text must be valid JSON already (a parser has read it): this only looks for boundaries. Values
are skipped by the decoder, which is fast; the places follow from their lengths. Only where an
object hides a name behind escapes or has one twice is it read piece by piece.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec


class Place(NamedTuple):
    """A value of an object or an array, from byte `start` up to `end`."""

    name: str
    """Of an object's member; empty in an array."""
    start: int
    end: int


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])

_SHORT_BYTES = 4096

_SPACE = re.compile(rb"[ \t\r\n]*+")
_NEXT = re.compile(rb"[ \t\r\n]*+[,{\[][ \t\r\n]*+")
_COLON = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_CLOSE = re.compile(rb"[ \t\r\n]*+[}\]]")

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PLAIN = rb'[^\[\]{}"]++'
_STRING_AT = re.compile(_STRING, re.DOTALL)
_SCALAR_AT = re.compile(rb"[^,\]}\s]++")
_BRACKET_AT = re.compile(rb"(?:" + _PLAIN + rb"|" + _STRING + rb")*+([\[\]{}])", re.DOTALL)


def _container(depth: int) -> bytes:
    """A pattern of an array or object that holds at most `depth` levels of others."""
    within = _PLAIN + rb"|" + _STRING + (rb"|" + _container(depth - 1) if depth else b"")
    return rb"[\[{](?:" + within + rb")*+[\]}]"


# One match of the usual depth of a request is many times faster than a loop over its brackets.
# All repetitions are possessive: nothing is ever tried twice.
_CONTAINER_AT = re.compile(_container(6), re.DOTALL)


def members(text: bytes) -> list[Place]:
    """The members of an object, in order; a name that stands twice is there twice."""
    return _by_lengths(text) or list(_piece_by_piece(text))


def places_of(text: bytes, name: str) -> list[tuple[int, int]]:
    """Start and end of the value of each member `name`."""
    return [(start, end) for found, start, end in members(text) if found == name]


def place_of_only(text: bytes, name: str) -> tuple[int, int] | None:
    """The value of the member `name`, which an object is known to have.

    A few looks at a short text; `None` where they do not tell.
    """
    written = b'"%s"' % name.encode()
    if len(text) > _SHORT_BYTES or b"\\u00" in text or text.count(written) != 1:
        return None
    # It is a member, is not written otherwise, and can be nowhere else.
    start = _end_of(_COLON, text, text.index(written) + len(written))
    return start, _value_end(text, start)


def elements(text: bytes) -> list[Place]:
    """The elements of an array, in order."""
    places: list[Place] = []
    at = 0
    for raw in _ARRAY.decode(text):
        start = _end_of(_NEXT, text, at)
        at = start + len(bytes(raw))
        places.append(Place("", start, at))
    return places


def after_bracket(text: bytes) -> int:
    """Where the first byte within an object or an array stands."""
    return _end_of(_SPACE, text, 0) + 1


def _by_lengths(text: bytes) -> list[Place] | None:
    """The members, found without looking into them; `None` where that proves nothing.

    The decoder gives the last value of each name in the order of the first. If the text consists of
    just these names and values in this order, there is nothing else in it.
    """
    places: list[Place] = []
    at = 0
    for name, raw in _OBJECT.decode(text).items():
        opened = _NEXT.match(text, at)
        written = b'"%s"' % name.encode()
        if opened is None or not text.startswith(written, opened.end()):
            return None
        colon = _COLON.match(text, opened.end() + len(written))
        value = bytes(raw)
        if colon is None or not text.startswith(value, colon.end()):
            return None
        at = colon.end() + len(value)
        places.append(Place(name, colon.end(), at))
    return places if _CLOSE.match(text, at) else None


def _piece_by_piece(text: bytes) -> Iterator[Place]:
    at = _after_space(text, after_bracket(text))
    while text[at : at + 1] == b'"':
        name_end = _end_of(_STRING_AT, text, at)
        name = text[at:name_end]
        start = _after_space(text, _after_space(text, name_end) + 1)
        end = _value_end(text, start)
        yield Place(msgspec.json.decode(name, type=str), start, end)
        comma = _after_space(text, end)
        at = _after_space(text, comma + 1) if text[comma : comma + 1] == b"," else comma


def _value_end(text: bytes, start: int) -> int:
    first = text[start : start + 1]
    if first == b'"':
        return _end_of(_STRING_AT, text, start)
    if first not in (b"{", b"["):
        return _end_of(_SCALAR_AT, text, start)
    match = _CONTAINER_AT.match(text, start)
    return match.end() if match else _deep_end(text, start)


def _deep_end(text: bytes, start: int) -> int:
    """The end of a container of any depth: bracket by bracket, strings skipped whole."""
    depth, at = 0, start
    while True:
        match = _BRACKET_AT.match(text, at)
        if match is None:
            raise ValueError(f"container at byte {start} does not end")
        at = match.end()
        depth += 1 if match[1] in b"[{" else -1
        if depth == 0:
            return at


def _after_space(text: bytes, at: int) -> int:
    return _end_of(_SPACE, text, at)


def _end_of(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    match = pattern.match(text, at)
    if match is None:
        raise ValueError(f"no JSON value at byte {at}")
    return match.end()
