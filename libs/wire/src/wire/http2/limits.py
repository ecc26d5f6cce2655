"""How much a connection grants its peer. Each limit names what answers its crossing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sane for peers that are ours or half trusted; sizes are per connection unless said else.

    A limit that ends the connection does so by GOAWAY with the code named.
    """

    max_concurrent_streams: int = 4096
    """Streams open at once; one more is refused (REFUSED_STREAM) and counts as a reset."""

    stream_window_bytes: int = 1 << 20
    """DATA that a peer may send on one stream ahead of its reader; past it FLOW_CONTROL_ERROR on
    the stream."""

    connection_window_bytes: int = 16 << 20
    """The same over all streams, at least 65 535; past it GOAWAY FLOW_CONTROL_ERROR."""

    max_frame_bytes: int = 1 << 14
    """Largest frame taken, 16 KiB to 16 MiB - 1; past it GOAWAY FRAME_SIZE_ERROR."""

    max_header_block_bytes: int = 16 << 10
    """Compressed header block; past it GOAWAY ENHANCE_YOUR_CALM."""

    max_header_list_bytes: int = 32 << 10
    """The same decompressed, 32 bytes added per field (RFC 9113 section 6.5.2); ENHANCE_YOUR_CALM:
    the block cannot be read to its end, so the compression state is lost."""

    max_continuations: int = 8
    """CONTINUATION frames of one block; past it GOAWAY ENHANCE_YOUR_CALM."""

    control_frames_burst: int = 1000
    """PING, SETTINGS, PRIORITY, unknown and empty DATA frames that cost us and carry nothing: so
    many at once, then `control_frames_per_s` and one per DATA frame; past it GOAWAY
    ENHANCE_YOUR_CALM."""

    control_frames_per_s: float = 100.0

    window_updates_burst: int = 2000
    """WINDOW_UPDATE frames, whichever stream they name: so many at once, then
    `window_updates_per_s`, 10 per DATA frame that we sent and 2 per stream; past it GOAWAY
    ENHANCE_YOUR_CALM."""

    window_updates_per_s: float = 200.0

    resets_burst: int = 10_000
    """Streams reset by the peer before they were answered, refused, or reset for a fault of the
    peer: so many at once, then `resets_per_s`; past it GOAWAY ENHANCE_YOUR_CALM. Streams already
    answered may be reset freely, as Envoy does with each. Room for all clients of a gateway to
    leave at once, and for a layer whose calls all expire."""

    resets_per_s: float = 1000.0

    max_buffered_bytes: int = 512 << 20
    """Parts of unfinished messages and messages not read yet, over all streams; a stream that
    exceeds it is reset with ENHANCE_YOUR_CALM."""

    max_unsent_bytes: int = 64 << 20
    """Queue of one stream over which a handler that does not wait for its peer may not go on; the
    stream is reset with ENHANCE_YOUR_CALM."""

    max_output_backlog_bytes: int = 4 << 20
    """Bytes that wait for a socket whose peer does not read while it makes us write more; past it
    the connection is cut."""

    handshake_timeout_s: float = 10.0
    """Until the peer's SETTINGS; past it GOAWAY SETTINGS_TIMEOUT."""

    stall_timeout_s: float = 60.0
    """A header block left unfinished, a socket that the peer does not read, or DATA that its window
    of the connection keeps waiting, without any progress; past it GOAWAY ENHANCE_YOUR_CALM."""

    stream_stall_timeout_s: float | None = 120.0
    """DATA that one stream's own window keeps waiting; past it RST_STREAM ENHANCE_YOUR_CALM. `None`
    lets a peer leave a stream unread for ever."""

    idle_timeout_s: float | None = None
    """A connection without streams; past it GOAWAY NO_ERROR. `None` keeps it."""

    keepalive_interval_s: float | None = None
    """Silence after which a PING asks whether the peer lives, as long as streams are open. gRPC
    servers may answer frequent ones with GOAWAY `too_many_pings`; `None` sends none."""

    keepalive_timeout_s: float = 20.0
    """Silence after that PING; past it the connection is cut."""
