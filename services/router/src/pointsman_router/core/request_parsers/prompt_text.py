"""Prompts of the several APIs as the bytes that they are counted and fingerprinted by.

Text stands as UTF-8. An image, a video or a sound stands as its hash, repeated to the length that
its estimated tokens would have as text, so that equal pictures have equal blocks and no base64 is
ever counted as text. Between messages stand separators that no JSON text can hold unescaped.
"""

import re
import struct
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Annotated

import msgspec
import xxhash

from pointsman_router.core.request_parsers.json_body import (
    OptionalRaw,
    decode_field,
    invalid,
    raw_bytes,
)

BYTES_PER_TOKEN = 4
PATCH_PIXELS = 28
"""Side of the square that vision encoders of the Qwen-VL kind turn into one token."""

IMAGE_TOKENS = ceil(640 / PATCH_PIXELS) * ceil(360 / PATCH_PIXELS)
"""Of an image of 640x360, the size that upstream assumes where none is told."""

VIDEO_TOKENS = 10 * 2 // 2 * IMAGE_TOKENS
"""Of 10 s at 2 frames a second, which is what upstream assumes; two frames make one patch."""

AUDIO_TOKENS = 10 * 25
"""Of 10 s at 25 tokens a second, as Whisper-like encoders with a stride of 40 ms have it."""

MESSAGE, ROLE = "\x1e", "\x1f"


class LeafPart(msgspec.Struct, frozen=True, gc=False):
    """A part of a message's content. Only the fields that carry prompt are read."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    image_url: OptionalRaw = msgspec.UNSET
    video_url: OptionalRaw = msgspec.UNSET
    audio_url: OptionalRaw = msgspec.UNSET
    input_audio: OptionalRaw = msgspec.UNSET
    file: OptionalRaw = msgspec.UNSET
    source: OptionalRaw = msgspec.UNSET
    """Anthropic's image or document."""
    name: str | None = None
    input: OptionalRaw = msgspec.UNSET
    """Arguments of a tool call in Anthropic's form."""


class ContentPart(LeafPart, frozen=True, gc=False):
    content: str | list[LeafPart] | None = None
    """Of a tool's result in Anthropic's form."""


Content = str | list[ContentPart] | None


def content_text(content: str | Sequence[LeafPart] | None) -> str:
    """The text of a message's content."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(_part_text(part) for part in content)


def conversation(tools: OptionalRaw, pieces: Iterable[str]) -> bytes:
    """Tools and then messages: what a chat template puts first comes first."""
    return raw_bytes(tools) + "".join(pieces).encode()


def _part_text(part: LeafPart) -> str:
    text = part.text or part.thinking or ""
    for media, tokens in (
        (part.image_url, IMAGE_TOKENS),
        (part.video_url, VIDEO_TOKENS),
        (part.audio_url, AUDIO_TOKENS),
        (part.input_audio, AUDIO_TOKENS),
        (part.file, IMAGE_TOKENS),
        (part.source, IMAGE_TOKENS),
    ):
        if media is not msgspec.UNSET:
            text += _stand_in(raw_bytes(media), tokens)
    if part.input is not msgspec.UNSET:
        text += f"{part.name or ''}{raw_bytes(part.input).decode()}"
    if isinstance(part, ContentPart):
        text += content_text(part.content)
    return text


def _stand_in(media: bytes, tokens: int) -> str:
    digest = xxhash.xxh64_hexdigest(media)
    length = tokens * BYTES_PER_TOKEN
    return (digest * (length // len(digest) + 1))[:length]


class RerankDocument(msgspec.Struct, frozen=True):
    """One of the texts that are ranked, in its longer form."""

    text: str | None = None


TokenId = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])
_IDS = msgspec.json.Decoder(list[TokenId])
_ID_LISTS = msgspec.json.Decoder(list[list[TokenId]])


def input_prompts(raw: OptionalRaw, *, request: str, param: str) -> tuple[bytes, ...]:
    """The prompts of a text, a list of texts, a list of token ids, or a list of such lists.

    Raises:
        BadRequestError: absent, empty, or anything else.
    """
    value = raw_bytes(raw)
    if not isinstance(raw, msgspec.Raw) or value in (b"", b'""'):
        raise invalid(request, f"must have {param} field", param=param)
    if value.startswith(b'"'):
        return (decode_field(_TEXT, raw, request=request, param=param).encode(),)
    first = value[1:].lstrip()[:1] if value.startswith(b"[") else b""
    if first == b"]":
        raise invalid(request, f"must have {param} field", param=param)
    if first == b'"':
        texts = decode_field(_TEXTS, raw, request=request, param=param)
        return tuple(text.encode() for text in texts)
    if first == b"[":
        lists = decode_field(_ID_LISTS, raw, request=request, param=param)
        return tuple(token_bytes(ids) for ids in lists)
    if first:
        ids = decode_field(_IDS, raw, request=request, param=param)
        return (token_bytes(ids),)
    raise invalid(request, f"{param} must be a string, a list of strings or token ids", param=param)


_IDS_AHEAD = re.compile(rb"\[\s*[\[\d]")


def is_token_ids(raw: OptionalRaw) -> bool:
    """Whether the prompts of `input_prompts` are token ids."""
    return isinstance(raw, msgspec.Raw) and _IDS_AHEAD.match(bytes(raw)) is not None


def token_bytes(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian u32: as many bytes to a token as an estimated one has."""
    return struct.pack(f"<{len(ids)}I", *ids)
