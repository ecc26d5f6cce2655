"""A bus that takes time and loses messages, each receiver for itself, by seeded dice."""

import asyncio
from collections.abc import Callable
from random import Random

import msgspec

from pointsman_common.bus import Handler, Responder
from pointsman_common.testing.in_memory_bus import matches
from pointsman_replay.adapters.virtual_loop import VirtualLoop
from pointsman_replay.core.timeline import Timeline


class BusTiming(msgspec.Struct, frozen=True):
    delay_s: float = 0.002
    """From publish to every receiver."""
    loss: float = 0.0
    """Chance of a message to be lost on its way to one receiver, 0 to 1."""


class VirtualBus:
    """Implements `Bus`. Messages to one receiver keep their order."""

    connected = True
    dropped = 0

    def __init__(
        self, timeline: Timeline, loop: VirtualLoop, timing: BusTiming, rng: Random
    ) -> None:
        self._timeline, self._loop, self._timing, self._rng = timeline, loop, timing, rng
        self._handlers: list[tuple[str, Handler]] = []
        self._responders: list[tuple[str, Responder]] = []
        self._receivers: dict[str, list[Handler]] = {}
        self.lost = 0

    def publish(self, subject: str, payload: bytes) -> None:
        receivers = self._receivers.get(subject)
        if receivers is None:
            receivers = self._receivers[subject] = [
                handler for pattern, handler in self._handlers if matches(pattern, subject)
            ]
        arrives_at = self._timeline.now + self._timing.delay_s
        for receiver in receivers:
            if not self._is_lost():
                self._timeline.at(arrives_at, receiver, subject, payload)

    def subscribe(self, subject: str, handler: Handler) -> Callable[[], None]:
        entry = (subject, handler)
        self._handlers.append(entry)
        self._receivers.clear()

        def end() -> None:
            self._handlers.remove(entry)
            self._receivers.clear()

        return end

    def respond(self, subject: str, responder: Responder) -> Callable[[], None]:
        entry = (subject, responder)
        self._responders.append(entry)
        return lambda: self._responders.remove(entry)

    async def query(self, subject: str, payload: bytes, *, timeout_s: float) -> list[bytes]:
        asked_at, answers = self._timeline.now, list[bytes]()
        timed_out: asyncio.Future[None] = self._loop.create_future()
        for pattern, responder in self._responders:
            if matches(pattern, subject) and not self._is_lost():
                self._timeline.at(
                    asked_at + self._timing.delay_s,
                    self._answer,
                    responder,
                    subject,
                    payload,
                    answers,
                )
        self._timeline.at(asked_at + timeout_s, self._resolve, timed_out)
        await timed_out
        return list(answers)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Never called: this bus does not go away."""

    def _answer(
        self, responder: Responder, subject: str, payload: bytes, answers: list[bytes]
    ) -> None:
        answer = responder(subject, payload)
        if answer is not None and not self._is_lost():
            self._timeline.at(self._timeline.now + self._timing.delay_s, answers.append, answer)

    def _resolve(self, waiting: asyncio.Future[None]) -> None:
        if not waiting.done():
            waiting.set_result(None)
            self._loop.run_ready()

    def _is_lost(self) -> bool:
        lost = self._timing.loss > 0.0 and self._rng.random() < self._timing.loss
        self.lost += lost
        return lost
