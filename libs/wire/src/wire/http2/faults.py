"""What becomes of frames that a stream cannot take, and of peers that send too many.

Applies the table of `stream.py`, remembers which streams we reset, and keeps the budgets of control
frames and resets. The frames themselves are read in `receiver.py`.
"""

from abc import abstractmethod
from collections.abc import Callable

from wire.http2.budgets import Budget
from wire.http2.errors import ErrorCode, Http2ConnectionError, protocol_error, too_much
from wire.http2.frames import TYPE_NAMES, rst_stream
from wire.http2.limits import Limits
from wire.http2.sender import Sender
from wire.http2.stream import VERDICTS, Stream, StreamState, Verdict

_RESETS_REMEMBERED = 1024
_UPDATES_PER_DATA_FRAME = 10
_UPDATES_PER_STREAM = 2


class Faults(Sender):
    """Base of `Receiver`. `now` is in seconds of a clock that does not go back."""

    def __init__(self, limits: Limits, *, now: float, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        self.limits, self.now = limits, now
        self.last_stream_id = 0
        """The highest stream that the client of this connection opened."""
        self._reset_by_us: dict[int, None] = {}
        self._control = Budget(limits.control_frames_burst, limits.control_frames_per_s, now)
        self._resets = Budget(limits.resets_burst, limits.resets_per_s, now)
        self._updates = Budget(limits.window_updates_burst, limits.window_updates_per_s, now)
        self._updates_earned = 0

    @abstractmethod
    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End `stream` at both sides at once."""

    @abstractmethod
    def drop(self, stream: Stream) -> None:
        """Forget a stream that is over."""

    def _judge(self, kind: int, stream_id: int) -> None:
        """A frame for a stream that cannot take it."""
        verdict = VERDICTS[self.state_of(stream_id)][kind]
        if verdict is Verdict.IDLE_FAULT:
            raise protocol_error(f"{TYPE_NAMES[kind]} on an idle stream")
        if verdict is Verdict.CONNECTION_FAULT:
            raise Http2ConnectionError(ErrorCode.STREAM_CLOSED, f"{TYPE_NAMES[kind]} too late")
        if verdict is Verdict.COUNT:
            self.count_control()
        elif verdict is Verdict.STREAM_FAULT:
            if (stream := self.streams.get(stream_id)) is not None:
                self._fault(stream, ErrorCode.STREAM_CLOSED)
            else:
                self.refuse(stream_id, ErrorCode.STREAM_CLOSED)

    def state_of(self, stream_id: int) -> StreamState:
        if (stream := self.streams.get(stream_id)) is not None:
            return stream.state
        if stream_id > self.last_stream_id or not stream_id & 1:
            return StreamState.IDLE
        return StreamState.RESET_BY_US if stream_id in self._reset_by_us else StreamState.CLOSED

    def count_control(self) -> None:
        if not self._control.spend(self.now):
            raise too_much("control frames")

    def count_window_update(self) -> None:
        streams = self.last_stream_id // 2
        earned = _UPDATES_PER_DATA_FRAME * self.data_frames_sent + _UPDATES_PER_STREAM * streams
        self._updates.earned += earned - self._updates_earned
        self._updates_earned = earned
        if not self._updates.spend(self.now):
            raise too_much("WINDOW_UPDATE frames")

    def count_reset(self) -> None:
        if not self._resets.spend(self.now):
            raise too_much("resets")

    def _fault(self, stream: Stream, code: ErrorCode) -> None:
        """The peer broke a rule on one stream; making us reset costs it like resetting does."""
        if stream.closed:
            return
        self.reset(stream, code)
        stream.on_reset(code)
        self.count_reset()

    def refuse(self, stream_id: int, code: ErrorCode) -> None:
        """Reset a stream that has no owner."""
        self._remember_reset(stream_id)
        self.emit(rst_stream(stream_id, code))
        self.count_reset()

    def _forget_reset(self, stream_id: int) -> None:
        """The peer has ended the stream too: anything more of it is a fault."""
        del self._reset_by_us[stream_id]

    def _remember_reset(self, stream_id: int) -> None:
        self._reset_by_us[stream_id] = None
        if len(self._reset_by_us) > _RESETS_REMEMBERED:
            del self._reset_by_us[next(iter(self._reset_by_us))]
