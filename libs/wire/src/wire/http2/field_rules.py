"""Which fields are well formed, RFC 9113 sections 8.1.1, 8.2.1 and 8.2.2."""

from collections.abc import Iterable
from re import compile as pattern

_NAME = pattern(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN_IN_VALUE = pattern(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_LONGEST_NUMBER = 20
"""Digits read of a content-length: more content than 64 bits can count does not come."""
_CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)


def field_fault(name: bytes, value: bytes) -> str | None:
    """What is wrong with a field; which pseudo-fields there are is for others to say."""
    if not name.startswith(b":"):
        if not _NAME.fullmatch(name):
            return "forbidden octet in a field name"
        if name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
            return "connection-specific field"
    if _FORBIDDEN_IN_VALUE.search(value):
        return "forbidden octet in a field value"
    if name == b"content-length" and not value.isdigit():
        return "content-length is no number"
    return None


def content_lengths(fields: Iterable[tuple[bytes, bytes]]) -> set[int]:
    """How many bytes of content are announced; more than one number is a fault."""
    return {int(value[:_LONGEST_NUMBER]) for name, value in fields if name == b"content-length"}
