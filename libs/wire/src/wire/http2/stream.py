"""One stream: its state, its windows, and what its owner is told.

What a frame received on a stream means, by the state of the stream (RFC 9113 section 5.1; there is
no push, so no reserved states):

    state               DATA                HEADERS             RST_STREAM  WINDOW_UPDATE
    IDLE                connection fault    opens it / fault*   fault       fault
    OPEN                on_data, on_end     on_headers, on_end  on_reset    window grows
    HALF_CLOSED_LOCAL   on_data, on_end     on_headers, on_end  on_reset    window grows
    HALF_CLOSED_REMOTE  stream fault        stream fault        on_reset    window grows
    RESET_BY_US         ignored (+)         ignored (+)         ignored     ignored
    CLOSED              stream fault        connection fault    ignored     ignored

    OPEN --END_STREAM sent--> HALF_CLOSED_LOCAL --END_STREAM received--> CLOSED
    OPEN --END_STREAM received--> HALF_CLOSED_REMOTE --END_STREAM sent--> CLOSED
    any --RST_STREAM received--> CLOSED        any --RST_STREAM sent--> RESET_BY_US

    (*) it opens a stream at a server, if its number is new; at a client it is a connection fault.

    (+) the peer may have sent it before it knew. Its END_STREAM makes the stream CLOSED; frames
        that carry neither that nor data count against the control frame budget.

Faults on idle streams are PROTOCOL_ERROR, others STREAM_CLOSED. `VERDICTS` is the table for the
frames that are not simply delivered.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

from wire.http2.errors import ErrorCode
from wire.http2.frames import DATA, HEADERS, RST_STREAM, WINDOW_UPDATE

if TYPE_CHECKING:
    from wire.http2.connection import Connection
    from wire.http2.hpack_cache import HeaderBlock


class StreamState(Enum):
    IDLE = "idle"
    OPEN = "open"
    HALF_CLOSED_LOCAL = "half-closed (local)"
    HALF_CLOSED_REMOTE = "half-closed (remote)"
    RESET_BY_US = "closed by our reset"
    CLOSED = "closed"


class Verdict(Enum):
    IGNORE = "drop it"
    COUNT = "drop it, and count it against the control frame budget"
    IDLE_FAULT = "GOAWAY PROTOCOL_ERROR"
    STREAM_FAULT = "RST_STREAM STREAM_CLOSED"
    CONNECTION_FAULT = "GOAWAY STREAM_CLOSED"


VERDICTS: Mapping[StreamState, Mapping[int, Verdict]] = {
    StreamState.IDLE: {
        DATA: Verdict.IDLE_FAULT,
        HEADERS: Verdict.IDLE_FAULT,
        RST_STREAM: Verdict.IDLE_FAULT,
        WINDOW_UPDATE: Verdict.IDLE_FAULT,
    },
    StreamState.HALF_CLOSED_REMOTE: {
        DATA: Verdict.STREAM_FAULT,
        HEADERS: Verdict.STREAM_FAULT,
    },
    StreamState.RESET_BY_US: {
        DATA: Verdict.COUNT,
        HEADERS: Verdict.COUNT,
        RST_STREAM: Verdict.IGNORE,
        WINDOW_UPDATE: Verdict.IGNORE,
    },
    StreamState.CLOSED: {
        DATA: Verdict.STREAM_FAULT,
        HEADERS: Verdict.CONNECTION_FAULT,
        RST_STREAM: Verdict.IGNORE,
        WINDOW_UPDATE: Verdict.IGNORE,
    },
}


class Stream:
    """Base of the streams of a layer above; it overrides the `on_` methods.

    They are called while bytes are read and may send. After `on_reset` or both ends, `closed` is
    set and nothing more is told.
    """

    __slots__ = (
        "answered",
        "closed",
        "connection",
        "content_left",
        "ending",
        "held_bytes",
        "id",
        "in_line",
        "local_done",
        "queue",
        "receive_left",
        "remote_done",
        "send_window",
        "stalled_since",
        "unread",
    )

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.send_window = connection.peer.initial_window_bytes
        """Bytes of DATA that we may send; may be negative (section 6.9.2)."""
        self.receive_left = connection.limits.stream_window_bytes
        """Bytes of DATA that the peer may still send."""
        self.content_left: int | None = None
        """What is to come of the content whose length the peer announced (section 8.1.1)."""
        self.unread = 0
        """Bytes received that wait for a reader: granted again only when read."""
        self.held_bytes = 0
        """Counted against `max_buffered_bytes`: messages unread or unfinished."""
        self.queue: bytearray | None = None
        """DATA that waits for a window or the socket."""
        self.stalled_since: float | None = None
        """When it was first seen to wait for the stream's own window (`liveness`)."""
        self.ending: bytes | None = None
        """What follows the queue: nothing yet, END_STREAM (empty), or a block of trailers."""
        self.in_line = False
        """In the line of streams that may send from their queues."""
        self.answered = False
        """We sent HEADERS."""
        self.local_done = False
        self.remote_done = False
        self.closed = False

    @property
    def state(self) -> StreamState:
        if self.closed or (self.local_done and self.remote_done):
            return StreamState.CLOSED
        if self.remote_done:
            return StreamState.HALF_CLOSED_REMOTE
        return StreamState.HALF_CLOSED_LOCAL if self.local_done else StreamState.OPEN

    def on_headers(self, block: HeaderBlock, *, is_last: bool) -> None:
        """A response's head, or trailers; `on_end` follows when `is_last`."""

    def on_data(self, data: bytes) -> None:
        """Content, never empty."""

    def on_end(self) -> None:
        """END_STREAM: nothing more comes."""

    def on_reset(self, code: ErrorCode | None) -> None:
        """The stream is over before its end: reset by either side, or (`None`) cut off."""

    def on_sent(self) -> None:
        """The queue has been sent to its end."""
