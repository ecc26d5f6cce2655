"""Messages in DATA: a flag for compression, a length of 4 bytes, the message.

DATA frames and messages have nothing to do with each other: a message may begin anywhere and span
any number of frames.
"""

from collections.abc import Iterable, Sequence
from struct import Struct

from wire.status import RpcError, RpcStatus

PREFIX_BYTES = 5
_PREFIX = Struct(">BI")
_pack, _unpack = _PREFIX.pack, _PREFIX.unpack_from


def frame_message(message: bytes) -> bytes:
    return _pack(0, len(message)) + message


def frame_messages(messages: Iterable[bytes]) -> bytes:
    return b"".join([_pack(0, len(message)) + message for message in messages])


class MessageReader:
    """Cuts the DATA of one stream into messages."""

    __slots__ = ("_max_bytes", "_needed", "_pending", "pending_bytes")

    def __init__(self, max_message_bytes: int) -> None:
        self._max_bytes = max_message_bytes
        self._pending: bytearray | None = None
        self._needed = PREFIX_BYTES
        self.pending_bytes = 0
        """Bytes kept of a message whose end has not come."""

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The messages that `data` completes.

        Raises:
            RpcError: a message over the limit (RESOURCE_EXHAUSTED), or compressed (UNIMPLEMENTED).
        """
        if self._pending is None:
            if len(data) >= PREFIX_BYTES:  # most often it is one whole message
                flag, length = _unpack(data)
                if not flag and length == len(data) - PREFIX_BYTES <= self._max_bytes:
                    return (data[PREFIX_BYTES:],)
            return self._cut(data)
        self._pending += data
        self.pending_bytes = len(self._pending)
        if self.pending_bytes < self._needed:
            return ()
        data, self._pending = bytes(self._pending), None
        return self._cut(data)

    def _cut(self, data: bytes) -> Sequence[bytes]:
        messages: list[bytes] = []
        position, end = 0, len(data)
        while end - position >= PREFIX_BYTES:
            flag, length = _unpack(data, position)
            if flag or length > self._max_bytes:
                raise _unreadable(flag, length, self._max_bytes)
            stop = position + PREFIX_BYTES + length
            if stop > end:
                self._needed = stop - position
                break
            messages.append(data[position + PREFIX_BYTES : stop])
            position = stop
        else:
            self._needed = PREFIX_BYTES
        self.pending_bytes = end - position
        if position < end:
            self._pending = bytearray(data[position:])
        return messages


def _unreadable(flag: int, length: int, max_bytes: int) -> RpcError:
    if flag == 1:
        return RpcError(RpcStatus.UNIMPLEMENTED, "compressed messages are not read")
    if flag:
        return RpcError(RpcStatus.INTERNAL, "unknown flag ahead of a message")
    return RpcError(
        RpcStatus.RESOURCE_EXHAUSTED, f"message of {length} bytes is over the limit of {max_bytes}"
    )
