"""Reads an answer while it passes: counts its tokens, and restores the model name where asked."""

from pointsman_ext_proc.core.exchange_events import Dispatched, Usage
from pointsman_ext_proc.core.model_name_restorer import ModelNameRestorer
from pointsman_ext_proc.core.response_usage import SseUsage, usage_in_json


class AnswerReader:
    """Of one answer. `max_json_bytes` bounds what is kept of a JSON answer to find its counts."""

    def __init__(
        self, dispatched: Dispatched, *, streaming: bool, json: bool, max_json_bytes: int
    ) -> None:
        self.restores = bool(dispatched.model_in_answer) and (streaming or json)
        self._restorer = (
            ModelNameRestorer(
                served=dispatched.descriptor.target_model, asked=dispatched.model_in_answer
            )
            if self.restores
            else None
        )
        self._sse = SseUsage() if dispatched.wants_usage and streaming else None
        self._json: list[bytes] | None = (
            [] if dispatched.wants_usage and json and not streaming else None
        )
        self._room = max_json_bytes

    @property
    def idle(self) -> bool:
        """There is nothing to read: chunks need not be fed."""
        return self._restorer is None and self._sse is None and self._json is None

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to pass on for this chunk."""
        if self._sse is not None:
            self._sse.feed(chunk)
        elif self._json is not None:
            self._room -= len(chunk)
            if self._room < 0:
                self._json = None  # too long: passed on unread
            else:
                self._json.append(chunk)
        return chunk if self._restorer is None else self._restorer.feed(chunk)

    def finish(self) -> bytes:
        """What is still to be passed on when the answer ends."""
        return b"" if self._restorer is None else self._restorer.finish()

    def usage(self) -> Usage | None:
        if self._sse is not None:
            return self._sse.result()
        return usage_in_json(b"".join(self._json)) if self._json else None
