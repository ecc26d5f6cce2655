"""A bus within one process: delivers at once, in order, and can be taken away."""

from collections.abc import Callable
from typing import TypeVar

from pointsman_common.bus import Handler, Responder
from pointsman_common.errors import BusUnavailableError

T = TypeVar("T")


class InMemoryBus:
    def __init__(self) -> None:
        self.connected = True
        self.dropped = 0
        self.published: list[tuple[str, bytes]] = []
        """All that was ever published, delivered or not."""
        self._handlers: list[tuple[str, Handler]] = []
        self._responders: list[tuple[str, Responder]] = []
        self._reconnect: list[Callable[[], None]] = []

    def publish(self, subject: str, payload: bytes) -> None:
        self.published.append((subject, payload))
        if not self.connected:
            self.dropped += 1
            return
        for pattern, handler in list(self._handlers):
            if matches(pattern, subject):
                handler(subject, payload)

    def subscribe(self, subject: str, handler: Handler) -> Callable[[], None]:
        entry = (subject, handler)
        self._handlers.append(entry)
        return lambda: _discard(self._handlers, entry)

    def respond(self, subject: str, responder: Responder) -> Callable[[], None]:
        entry = (subject, responder)
        self._responders.append(entry)
        return lambda: _discard(self._responders, entry)

    async def query(self, subject: str, payload: bytes, *, timeout_s: float) -> list[bytes]:
        del timeout_s
        if not self.connected:
            raise BusUnavailableError("the bus is away")
        answers = [
            responder(subject, payload)
            for pattern, responder in list(self._responders)
            if matches(pattern, subject)
        ]
        return [answer for answer in answers if answer is not None]

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._reconnect.append(callback)

    def take_away(self) -> None:
        self.connected = False

    def bring_back(self) -> None:
        self.connected = True
        for callback in self._reconnect:
            callback()

    def sent(self, subject: str) -> list[bytes]:
        """Payloads published on one subject."""
        return [payload for name, payload in self.published if name == subject]


def _discard(entries: list[T], entry: T) -> None:
    if entry in entries:
        entries.remove(entry)


def matches(pattern: str, subject: str) -> bool:
    """NATS matching: `*` stands for one token, a last `>` for the rest."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(given) >= len(wanted) and all(
            a in ("*", b) for a, b in zip(wanted[:-1], given, strict=False)
        )
    return len(wanted) == len(given) and all(
        a in ("*", b) for a, b in zip(wanted, given, strict=True)
    )
