"""Gathers a request body that comes in chunks, up to a limit."""


class RequestBodyBuffer:
    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._chunks: list[bytes] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, chunk: bytes) -> bool:
        """Keep a chunk; returns False, and forgets everything, once the limit is passed."""
        self._length += len(chunk)
        if self._length > self._max_bytes:
            self._chunks.clear()
            return False
        if chunk:
            self._chunks.append(chunk)
        return True

    def take(self) -> bytes:
        """The whole body; the buffer is empty afterwards."""
        chunks, self._chunks = self._chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
