"""What the services ask of a message bus. It is never awaited on the path of a request."""

from collections.abc import Awaitable, Callable
from typing import Protocol

Handler = Callable[[str, bytes], None]
"""Takes subject and payload. Must not block and must not raise."""

Responder = Callable[[str, bytes], bytes | None]
"""Answers a query; `None` keeps silent."""


class Bus(Protocol):
    @property
    def connected(self) -> bool: ...

    @property
    def dropped(self) -> int:
        """Messages dropped so far because the bus was away for too long."""
        ...

    def publish(self, subject: str, payload: bytes) -> None:
        """Hand a message over; never waits. While the bus is away messages wait in a bounded
        buffer, from which the oldest are dropped first and counted."""
        ...

    def subscribe(self, subject: str, handler: Handler) -> Callable[[], None]:
        """Have a handler called for each message, from now on and over reconnections.

        Returns what ends the subscription.
        """
        ...

    def respond(self, subject: str, responder: Responder) -> Callable[[], None]:
        """Answer the queries sent to a subject. Returns what ends it."""
        ...

    def query(self, subject: str, payload: bytes, *, timeout_s: float) -> Awaitable[list[bytes]]:
        """Ask all responders; resolves after `timeout_s` with the answers that came.

        Raises:
            BusUnavailableError: the bus is away.
        """
        ...

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Have a callback called whenever the bus is there again after it was away."""
        ...
