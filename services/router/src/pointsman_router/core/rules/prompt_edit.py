"""Puts text into a prompt: before everything else as its system prompt, or into a user's turn.

Only what is added is written: a text grows within its quotes, a list of parts by one part, and all
other bytes stay. Where a key stands twice in an object each is edited, so that it does not matter
which one a reader takes.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from pointsman_router.core.json_places import Place, after_bracket, elements, members, places_of
from pointsman_router.core.json_splice import Splice, set_members
from pointsman_router.core.rules.callout import RuleFailedError

Mode = Literal["prepend", "append", "replace"]
Side = Literal["before", "after"]

SYSTEM_ROLES = ("system", "developer")
_GAP = "\n\n"


def with_system_text(api: str, body: bytes, text: str, mode: Mode) -> tuple[Splice, ...]:
    """Put text before or behind what the system prompt says, or in its place.

    Raises:
        RuleFailedError: the API has no text that goes first.
    """
    if api == "openai-chat":
        edits = [
            splice
            for start, end in places_of(body, "messages")
            for splice in _moved(_system_message(body[start:end], text, mode), start)
        ]
        return tuple(edits)
    if api in ("anthropic-messages", "anthropic-count-tokens"):
        return _system_member(body, "system", text, mode)
    if api == "openai-responses":
        return _of_responses(body, text, mode)
    if api == "openai-completions":
        # There is no system prompt to replace or to follow: the text goes first.
        return _each_prompt(body, "prompt", text, "before")
    raise _unsuitable(f"{api} has no system prompt")


def with_user_text(api: str, body: bytes, text: str, side: Side) -> tuple[Splice, ...]:
    """Put text before or behind that of the last user turn.

    Raises:
        RuleFailedError: there is no such turn, or it is made of token ids.
    """
    if api in ("openai-chat", "anthropic-messages", "anthropic-count-tokens"):
        return _last_turn(body, "messages", text, side)
    if api == "openai-responses":
        places = places_of(body, "input")
        if any(body[start : start + 1] == b'"' for start, _ in places):
            return _each_prompt(body, "input", text, side)
        return _last_turn(body, "input", text, side)
    if api == "openai-completions":
        return _each_prompt(body, "prompt", text, side)
    raise _unsuitable(f"{api} has no user turn")


def _system_message(array: bytes, text: str, mode: Mode) -> list[Splice]:
    """Edits to a list of chat messages."""
    found = elements(array)
    roles = [_role(array, place) for place in found]
    leading = 0
    while leading < len(roles) and roles[leading] in SYSTEM_ROLES:
        leading += 1
    if mode != "replace" and leading:
        place = found[0 if mode == "prepend" else leading - 1]
        side: Side = "before" if mode == "prepend" else "after"
        return _grown_content(array, place, text, side)
    removed = [
        number for number, role in enumerate(roles) if mode == "replace" and role in SYSTEM_ROLES
    ]
    message = b'{"role":"system","content":' + msgspec.json.encode(text) + b"}"
    comma = b"," if len(found) > len(removed) else b""
    return [Splice(after_bracket(array), 0, message + comma), *_without(found, removed)]


def _of_responses(body: bytes, text: str, mode: Mode) -> tuple[Splice, ...]:
    splices = list(_system_member(body, "instructions", text, mode))
    if mode == "replace":
        for start, end in places_of(body, "input"):
            if body[start : start + 1] != b"[":
                continue
            array = body[start:end]
            found = elements(array)
            removed = [n for n, place in enumerate(found) if _role(array, place) in SYSTEM_ROLES]
            splices += _moved(_without(found, removed), start)
    return tuple(sorted(splices, key=lambda splice: splice.offset))


def _system_member(body: bytes, key: str, text: str, mode: Mode) -> tuple[Splice, ...]:
    """Edits to a top-level system prompt, which may be missing."""
    places = places_of(body, key)
    if not places or mode == "replace":
        return set_members(body, {key: msgspec.json.encode(text)})
    side: Side = "before" if mode == "prepend" else "after"
    return tuple(
        splice
        for start, end in places
        for splice in _moved(_grown(body[start:end], text, side), start)
    )


def _last_turn(body: bytes, key: str, text: str, side: Side) -> tuple[Splice, ...]:
    splices: list[Splice] = []
    for start, end in places_of(body, key):
        array = body[start:end]
        turns = elements(array) if array.startswith(b"[") else []
        for place in reversed(turns):
            if _role(array, place) == "user":
                splices += _moved(_grown_content(array, place, text, side), start)
                break
        else:
            raise _unsuitable("there is no user turn")
    return tuple(splices)


def _each_prompt(body: bytes, key: str, text: str, side: Side) -> tuple[Splice, ...]:
    """Edits to a prompt, or to each of a list of them."""
    splices: list[Splice] = []
    for start, end in places_of(body, key):
        value = body[start:end]
        places = elements(value) if value.startswith(b"[") else [Place("", 0, len(value))]
        for place in places:
            prompt = value[place.start : place.end]
            if not prompt.startswith(b'"'):
                raise _unsuitable("the prompt is made of token ids")
            splices += _moved(_grown(prompt, text, side), start + place.start)
    return tuple(splices)


def _grown_content(array: bytes, message: Place, text: str, side: Side) -> list[Splice]:
    """Edits to the content of one message of a list."""
    within = array[message.start : message.end]
    contents = places_of(within, "content")
    if not contents:
        return _moved(set_members(within, {"content": msgspec.json.encode(text)}), message.start)
    return [
        splice
        for start, end in contents
        for splice in _moved(_grown(within[start:end], text, side), message.start + start)
    ]


def _grown(value: bytes, text: str, side: Side) -> list[Splice]:
    """Edits to a text, a list of parts, or nothing (`null`), which become longer by a text."""
    if value.startswith(b'"'):
        empty = value == b'""'
        gap = "" if empty else _GAP
        if side == "before":
            return [Splice(1, 0, _escaped(text + gap))]
        return [Splice(len(value) - 1, 0, _escaped(gap + text))]
    if value.startswith(b"["):
        part = msgspec.json.encode({"type": "text", "text": text})
        found = elements(value)
        if not found or side == "before":
            return [Splice(after_bracket(value), 0, part + (b"," if found else b""))]
        return [Splice(found[-1].end, 0, b"," + part)]
    if value == b"null":
        return [Splice(0, len(value), msgspec.json.encode(text))]
    raise _unsuitable("its content is neither a text nor a list of parts")


def _without(found: Sequence[Place], removed: Sequence[int]) -> list[Splice]:
    """Edits that take elements out of a list, with the commas that go with them."""
    gone = set(removed)
    kept = [number for number in range(len(found)) if number not in gone]
    if not gone:
        return []
    if not kept:
        return [_cut(found[0].start, found[-1].end)]
    return [
        _cut(found[number].start, found[number + 1].start)
        if number < kept[-1]
        else _cut(found[number - 1].end, found[number].end)
        for number in removed
    ]


def _cut(start: int, end: int) -> Splice:
    return Splice(start, end - start, b"")


def _role(array: bytes, place: Place) -> str:
    """The role of a message; of two the last, as most readers have it."""
    within = array[place.start : place.end]
    if not within.startswith(b"{"):
        return ""
    role = ""
    for name, start, end in members(within):
        if name == "role" and within[start : start + 1] == b'"':
            role = msgspec.json.decode(within[start:end], type=str)
    return role


def _moved(splices: Sequence[Splice], by: int) -> list[Splice]:
    return [Splice(splice.offset + by, splice.removed, splice.inserted) for splice in splices]


def _escaped(text: str) -> bytes:
    return msgspec.json.encode(text)[1:-1]


def _unsuitable(why: str) -> RuleFailedError:
    return RuleFailedError(RuleFailedError.UNSUITABLE, why)
