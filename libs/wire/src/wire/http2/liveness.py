"""What is to be given up as time passes: connections never greeted, stalled, silent or idle, and
streams that their peer does not read."""

from wire.http2.connection import Connection
from wire.http2.errors import ErrorCode
from wire.http2.frames import PING, frame
from wire.http2.limits import Limits

_KEEPALIVE_PING = b"are u ok"
_SHORTEST_TICK_S, _LONGEST_TICK_S = 0.02, 5.0


def tick_interval_s(limits: Limits) -> float:
    """How often `tick` wants to be called: a quarter of the shortest limit, within reason."""
    waits = [
        limits.handshake_timeout_s,
        limits.stall_timeout_s,
        limits.keepalive_timeout_s,
        *filter(
            None,
            (limits.idle_timeout_s, limits.keepalive_interval_s, limits.stream_stall_timeout_s),
        ),
    ]
    return min(max(min(waits) / 4, _SHORTEST_TICK_S), _LONGEST_TICK_S)


class Liveness:
    """Watches one connection; times in seconds of the connection's clock."""

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection, self._limits = connection, connection.limits
        self._opened_at = now
        self._asked_at: float | None = None
        self._busy_at = now
        self._output_stuck_since: float | None = None
        self._frames_sent = 0

    def tick(self, now: float) -> None:
        """May ask the peer by PING, or end the connection."""
        connection, limits = self._connection, self._limits
        if connection.closing:
            return
        if not connection.has_settings:
            if now - self._opened_at > limits.handshake_timeout_s:
                connection.fail(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS in time")
            return
        if self._is_stalled(now):
            connection.fail(ErrorCode.ENHANCE_YOUR_CALM, "stalled")
            return
        if limits.stream_stall_timeout_s is not None:
            self._reset_stalled_streams(now, limits.stream_stall_timeout_s)
        self._keep_alive(now)
        if connection.streams:
            self._busy_at = now
        elif limits.idle_timeout_s is not None and now - self._busy_at > limits.idle_timeout_s:
            connection.fail(ErrorCode.NO_ERROR, "idle")

    def _is_stalled(self, now: float) -> bool:
        connection, longest_s = self._connection, self._limits.stall_timeout_s
        is_held_up = connection.is_paused or connection.is_starved
        if not is_held_up or connection.data_frames_sent != self._frames_sent:
            self._frames_sent = connection.data_frames_sent
            self._output_stuck_since = now if is_held_up else None
        elif self._output_stuck_since is None:
            self._output_stuck_since = now
        since = [
            moment
            for moment in (connection.block_started_at, self._output_stuck_since)
            if moment is not None
        ]
        return bool(since) and now - min(since) > longest_s

    def _reset_stalled_streams(self, now: float, longest_s: float) -> None:
        for stream in [*self._connection.streams.values()]:
            if not stream.queue or stream.send_window > 0:
                stream.stalled_since = None
            elif stream.stalled_since is None:
                stream.stalled_since = now
            elif now - stream.stalled_since > longest_s:
                self._connection.reset(stream, ErrorCode.ENHANCE_YOUR_CALM)
                stream.on_reset(ErrorCode.ENHANCE_YOUR_CALM)

    def _keep_alive(self, now: float) -> None:
        connection, interval_s = self._connection, self._limits.keepalive_interval_s
        if interval_s is None:
            return
        if self._asked_at is not None and connection.last_received_at >= self._asked_at:
            self._asked_at = None
        if self._asked_at is not None:
            if now - self._asked_at > self._limits.keepalive_timeout_s:
                connection.cut_off("keepalive ping was not answered")
        elif connection.streams and now - connection.last_received_at > interval_s:
            self._asked_at = now
            connection.emit(frame(PING, 0, 0, _KEEPALIVE_PING))
