"""Puts the model name that a client asked for in place of the one that served it, in the bytes of
an answer, however they are cut into chunks."""

import msgspec


class ModelNameRestorer:
    """Replaces `"model":"<served>"`, with or without one space after the colon.

    Holds back only an end of a chunk that may be the beginning of such a text.
    """

    def __init__(self, *, served: str, asked: str) -> None:
        old, new = msgspec.json.encode(served), msgspec.json.encode(asked)
        self._pairs = [(b'"model":' + gap + old, b'"model":' + gap + new) for gap in (b"", b" ")]
        self._longest = max(len(old) for old, _ in self._pairs)
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What may be passed on now."""
        body = self._held + chunk if self._held else chunk
        for old, new in self._pairs:
            if old in body:
                body = body.replace(old, new)
        held = self._beginning_at_end_of(body)
        self._held = body[len(body) - held :]
        return body[: len(body) - held]

    def finish(self) -> bytes:
        """What was held back, once nothing follows."""
        held, self._held = self._held, b""
        return held

    def _beginning_at_end_of(self, body: bytes) -> int:
        # A beginning starts with a quote, so only quotes near the end need a look.
        start = max(0, len(body) - self._longest + 1)
        while (at := body.find(b'"', start)) >= 0:
            tail = body[at:]
            if any(old.startswith(tail) for old, _ in self._pairs):
                return len(tail)
            start = at + 1
        return 0
