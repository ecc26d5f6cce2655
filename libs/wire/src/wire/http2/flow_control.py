"""Flow control arithmetic, RFC 9113 sections 5.2 and 6.9. Windows are plain numbers of bytes.

Sending: a window falls with each DATA frame and grows with WINDOW_UPDATE; a change of the peer's
INITIAL_WINDOW_SIZE moves the windows of all open streams and may make them negative (6.9.2).
Receiving: what has been read is granted again once half of the window is used, so that
WINDOW_UPDATE is rare and a reader that stops reading stops its sender.
"""

from wire.http2.errors import ErrorCode, Http2StreamError
from wire.http2.settings import MAX_WINDOW_BYTES


def grown_window(window: int, increment: int) -> int:
    """The window after WINDOW_UPDATE.

    Raises:
        Http2StreamError: an increment of 0, or a window over 2^31 - 1 (sections 6.9 and 6.9.1).
    """
    if increment == 0:
        raise Http2StreamError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
    if window + increment > MAX_WINDOW_BYTES:
        raise Http2StreamError(ErrorCode.FLOW_CONTROL_ERROR, "window over 2^31 - 1")
    return window + increment


def increment_due(left: int, unread: int, size: int) -> int:
    """What to grant now on a window of `size` bytes of which `left` are free and `unread` are held
    for a slow reader: 0 until half of it is used and read."""
    grantable = size - left - unread
    return grantable if grantable * 2 > size else 0
