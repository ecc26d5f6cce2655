"""Cuts a body into messages that every gateway takes, and applies a layer's patch to it."""

from collections.abc import Iterator

from pointsman_common.contracts.routing_pb2 import BodyPatch
from pointsman_ext_proc.core.exchange_events import MAX_PIECE_BYTES


def pieces(body: bytes, *, end_of_stream: bool) -> Iterator[tuple[bytes, bool]]:
    """Pieces with their end mark, which only the last may bear. An empty body is one piece."""
    if len(body) <= MAX_PIECE_BYTES:
        yield body, end_of_stream
        return
    last = (len(body) - 1) // MAX_PIECE_BYTES * MAX_PIECE_BYTES
    for start in range(0, len(body), MAX_PIECE_BYTES):
        yield body[start : start + MAX_PIECE_BYTES], end_of_stream and start == last


def patched(body: bytes, patch: BodyPatch) -> bytes:
    """The body with the patch applied.

    Raises:
        ValueError: the splices overlap, are out of order or lie outside the body.
    """
    if patch.WhichOneof("patch") == "replacement":
        return patch.replacement
    parts: list[bytes] = []
    at = 0
    for splice in patch.splices.splices:
        end = splice.offset + splice.removed
        if splice.offset < at or end > len(body):
            raise ValueError(f"splice at {splice.offset} of a body of {len(body)} bytes")
        parts += (body[at : splice.offset], splice.inserted)
        at = end
    parts.append(body[at:])
    return b"".join(parts)
