"""The bus of a shadow: it hears everything, and may say what it found and that it lives."""

from collections.abc import Callable

from pointsman_common import subjects
from pointsman_common.bus import Bus, Handler, Responder
from pointsman_common.errors import BusUnavailableError
from pointsman_common.structured_log import get_logger

log = get_logger("shadow-bus")


class ShadowBus:
    """Whatever else the shadow, or code that it shares with a scheduler, would publish, ask or
    answer is dropped and counted here: production reads none of what comes from a shadow."""

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus, self._name = bus, name
        self.withheld = 0
        """Messages, questions and answers that were not let through."""

    @property
    def connected(self) -> bool:
        return self._bus.connected

    @property
    def dropped(self) -> int:
        return self._bus.dropped

    def publish(self, subject: str, payload: bytes) -> None:
        if self._is_ours(subject):
            self._bus.publish(subject, payload)
        else:
            self._withhold(subject)

    def subscribe(self, subject: str, handler: Handler) -> Callable[[], None]:
        return self._bus.subscribe(subject, handler)

    def respond(self, subject: str, responder: Responder) -> Callable[[], None]:
        del responder
        self._withhold(subject)
        return lambda: None

    async def query(self, subject: str, payload: bytes, *, timeout_s: float) -> list[bytes]:
        """Raises BusUnavailableError: answering would be work for production."""
        del payload, timeout_s
        self._withhold(subject)
        raise BusUnavailableError("a shadow asks nothing")

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._bus.on_reconnect(callback)

    def _is_ours(self, subject: str) -> bool:
        if subject == subjects.HEARTBEAT:
            return True
        if not subject.startswith(f"{subjects.PREFIX}."):
            return False
        return subject == subjects.shadow(subjects.pool_of(subject), self._name)

    def _withhold(self, subject: str) -> None:
        self.withheld += 1
        if self.withheld == 1:
            log.warning("shadow-withheld", subject=subject)
