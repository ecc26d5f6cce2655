"""What serves a call: the kinds of handlers, and what they see of the call."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wire.status import RpcStatus

UnaryHandler = Callable[[bytes], bytes | Awaitable[bytes]]
"""From request to response; a plain function costs no task and must not block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What a unary handler may know of its call besides the message."""

    metadata: Mapping[str, str]
    """Text that the client sent ahead, by lower-case key."""
    binary_metadata: Mapping[str, bytes]
    """The same of keys that end with `-bin`."""
    timeout_s: float | None
    """What was left of the client's deadline when the call began; `None`: it has none."""


ContextUnaryHandler = Callable[[bytes, CallContext], bytes | Awaitable[bytes]]
"""A `UnaryHandler` that takes the context of the call, too."""


class BidiStream(Protocol):
    """One bidirectional call, seen by its handler. The call ends when the handler returns."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Text that the client sent ahead of its messages, by lower-case key."""
        ...

    @property
    def binary_metadata(self) -> Mapping[str, bytes]:
        """The same of keys that end with `-bin`."""
        ...

    async def receive(self) -> bytes | None:
        """Return the next message, or `None` when the client has sent its last."""

    async def send(self, message: bytes) -> None:
        """Send one message; waits while the client's flow-control window is full."""

    async def send_many(self, messages: Sequence[bytes]) -> None:
        """Send several messages in one write; waits like `send`."""


BidiHandler = Callable[[BidiStream], Awaitable[None]]


class CallbackTransport(Protocol):
    """What an engine does for a `CallbackStream`; see there."""

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def binary_metadata(self) -> Mapping[str, bytes]: ...

    @property
    def unsent_bytes(self) -> int: ...

    def send_message(self, message: bytes) -> None: ...

    def send_messages(self, messages: Sequence[bytes]) -> None: ...

    def finish(self, status: RpcStatus = RpcStatus.OK, message: str = "") -> None: ...


class CallbackStream:
    """One bidirectional call as callbacks, for handlers that must cost little: no task, no waiting.

    Subclass it and give its factory to `Server.bidi_callbacks`; each call makes one. The `on_`
    methods are called one at a time and must not block; what they raise ends the call like that of
    a coroutine. `send`, `send_many` and `finish` never wait and do nothing once the call has ended.
    Messages are granted to the client again as soon as `on_message` returns, so look at
    `unsent_bytes` before sending much more than is received.
    """

    __slots__ = ("_transport",)

    _transport: CallbackTransport

    def attach(self, transport: CallbackTransport) -> None:
        """Called by the engine before anything else."""
        self._transport = transport

    def on_open(self) -> None:
        """The call has begun."""

    def on_message(self, message: bytes) -> None:
        """One message of the client."""

    def on_end(self) -> None:
        """The client has sent its last message; answered by OK unless overridden."""
        self.finish()

    def on_reset(self) -> None:
        """The call is over before its end: cancelled, expired, or the connection lost.

        Comes after `on_end` where the client ended first, also when both came in one read; never
        after `finish` has been sent to its end.
        """

    def on_sent(self) -> None:
        """What had to wait for the client's window or the socket has been sent."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Text that the client sent ahead of its messages, by lower-case key."""
        return self._transport.metadata

    @property
    def binary_metadata(self) -> Mapping[str, bytes]:
        """The same of keys that end with `-bin`."""
        return self._transport.binary_metadata

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for the client's window or the socket."""
        return self._transport.unsent_bytes

    def send(self, message: bytes) -> None:
        self._transport.send_message(message)

    def send_many(self, messages: Sequence[bytes]) -> None:
        """Several messages in one write."""
        self._transport.send_messages(messages)

    def finish(self, status: RpcStatus = RpcStatus.OK, message: str = "") -> None:
        """End the call behind what has been sent."""
        self._transport.finish(status, message)


CallbackFactory = Callable[[], CallbackStream]
