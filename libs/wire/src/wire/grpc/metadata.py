"""Metadata of calls as header fields.

Keys are lower case; those that end with `-bin` hold bytes, which cross as base64 without padding
(written so, read either way). Of several values for one key the last counts.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from functools import lru_cache

from wire.http2.header_encoding import encode_field_name, encode_value
from wire.status import Metadata

_BINARY = b"-bin"
_NAMES_KEPT = 256
_RESERVED = frozenset(
    (b"te", b"content-type", b"grpc-timeout", b"grpc-encoding", b"grpc-status", b"grpc-message")
)


def encode_metadata(metadata: Metadata) -> bytes:
    """Part of a header block. On the hot path of traced calls, so names are encoded once.

    Raises:
        ValueError: bytes for a key without `-bin`, text for one with it, or a value with other
            than printable ASCII.
    """
    parts: list[bytes] = []
    for key, value in metadata.items():
        name, is_binary = _encoded_name(key)
        if isinstance(value, bytes):
            if not is_binary:
                raise ValueError(f"metadata {key!r} is bytes, and no -bin key")
            raw = b64encode(value).rstrip(b"=")
        else:
            if is_binary or not (value.isascii() and value.isprintable()):
                raise ValueError(f"metadata {key!r} is no printable ASCII text, or a -bin key")
            raw = value.encode()
        parts += (name, encode_value(raw))
    return b"".join(parts)


def text_metadata(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in fields
        if name not in _RESERVED and not name.endswith(_BINARY) and not name.startswith(b":")
    }


def binary_metadata(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, bytes]:
    """What is no base64 is left out: it is of no use to anybody."""
    found: dict[str, bytes] = {}
    for name, value in fields:
        if name.endswith(_BINARY):
            # One field may hold several values, joined by commas.
            last = value.rpartition(b",")[2].strip()
            try:
                found[name.decode("latin-1")] = b64decode(
                    last + b"=" * (-len(last) % 4), validate=True
                )
            except Base64Error:
                continue
    return found


@lru_cache(_NAMES_KEPT)
def _encoded_name(key: str) -> tuple[bytes, bool]:
    name = key.lower().encode("ascii")
    return encode_field_name(name), name.endswith(_BINARY)
