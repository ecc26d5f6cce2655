"""The bus over NATS core: at most once, with a bounded buffer while the server is away."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from pointsman_common.bus import Handler, Responder
from pointsman_common.clock import Clock
from pointsman_common.errors import BusUnavailableError, SettingsError
from pointsman_common.settings_loader import masked_url
from pointsman_common.structured_log import get_logger

log = get_logger("bus")

RECONNECT_S = 0.1
"""Between two attempts to reach a server that is away."""


class NatsBus:
    """A part of a service (see lifecycle.py): `run` keeps the connection until cancelled.

    Everything may be called before the first connection stands: subscriptions are made when it
    does, messages wait. The service starts and works without the bus.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        name: str,
        buffer_messages: int = 10_000,
        buffer_bytes: int = 16 << 20,
    ) -> None:
        self._url, self._clock, self._name = url, clock, name
        self._buffer_messages, self._buffer_bytes = buffer_messages, buffer_bytes
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._client: Client | None = None
        self._handlers: dict[int, tuple[str, Callable[[Msg], Any]]] = {}
        self._live: dict[int, Any] = {}
        self._next_key = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._reconnect_callbacks: list[Callable[[], None]] = []
        self._dropped = 0
        self._was_away = False

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    @property
    def dropped(self) -> int:
        return self._dropped

    def publish(self, subject: str, payload: bytes) -> None:
        if len(payload) > self._buffer_bytes:
            self._dropped += 1  # alone: it would drive out all that waits, and itself
            return
        self._waiting.append((subject, payload))
        self._waiting_bytes += len(payload)
        while (
            len(self._waiting) > self._buffer_messages or self._waiting_bytes > self._buffer_bytes
        ):
            self._waiting_bytes -= len(self._waiting.popleft()[1])
            self._dropped += 1
        self._wake.set()

    def subscribe(self, subject: str, handler: Handler) -> Callable[[], None]:
        async def receive(message: Msg) -> None:
            try:
                handler(message.subject, message.data)
            except Exception:
                # A handler decides what it can read; what it cannot must not end the subscription.
                log.exception("bus-handler-failed", subject=message.subject)

        return self._register(subject, receive)

    def respond(self, subject: str, responder: Responder) -> Callable[[], None]:
        async def receive(message: Msg) -> None:
            try:
                answer = responder(message.subject, message.data)
            except Exception:
                log.exception("bus-responder-failed", subject=message.subject)
                return
            if answer is not None and message.reply:
                self.publish(message.reply, answer)

        return self._register(subject, receive)

    async def query(self, subject: str, payload: bytes, *, timeout_s: float) -> list[bytes]:
        client = self._client
        if client is None or not client.is_connected:
            raise BusUnavailableError("the bus is away")
        answers: list[bytes] = []

        async def receive(message: Msg) -> None:
            if not (message.headers or {}).get("Status"):  # 503 says that nobody listens
                answers.append(message.data)

        inbox = client.new_inbox()
        try:
            subscription = await client.subscribe(inbox, cb=receive)
            try:
                await client.publish(subject, payload, reply=inbox)
                await self._clock.sleep(timeout_s)
            finally:
                await subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailableError(str(error)) from error
        return answers

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._reconnect_callbacks.append(callback)

    async def run(self) -> None:
        """Keep the connection and send what is published, until cancelled."""
        try:
            while True:
                client = await self._connect()
                while not client.is_closed:
                    await self._wake.wait()
                    self._wake.clear()
                    await self._send_waiting(client)
                # The client gives up on some errors of the server's; the service does not.
                self._live.clear()
        finally:
            client_now, self._client = self._client, None
            for task in self._tasks:
                task.cancel()
            if client_now is not None:
                await self._close(client_now)

    async def drain(self, grace_s: float) -> None:
        """Send what is waiting, for at most `grace_s` seconds."""
        client = self._client
        if client is None or not client.is_connected:
            return
        try:
            async with asyncio.timeout(grace_s):
                await self._send_waiting(client)
                await client.flush()
        except (TimeoutError, nats.errors.Error):
            log.warning("bus-drain-incomplete", waiting=len(self._waiting))

    async def _connect(self) -> Client:
        """Returns when the connection stands; the client tries until it does, ten times a second.

        Raises:
            SettingsError: the URL is none.
        """
        client = Client()
        try:
            await client.connect(
                [item.strip() for item in self._url.split(",")],
                name=self._name,
                connect_timeout=2,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]  # any number will do
                ping_interval=5,
                max_outstanding_pings=2,
                pending_size=4 << 20,
                error_cb=self._on_error,
                reconnected_cb=self._on_reconnected,
                disconnected_cb=self._on_disconnected,
                closed_cb=self._on_closed,
            )
        except (nats.errors.Error, ValueError) as error:
            raise SettingsError("bus_url", str(error)) from error
        except asyncio.CancelledError:
            await self._close(client)
            raise
        self._client = client
        for key in list(self._handlers):
            await self._subscribe_now(key)
        log.info("bus-connected", url=masked_url(self._url))
        self._tell_reconnected()
        return client

    async def _send_waiting(self, client: Client) -> None:
        while self._waiting:
            if not client.is_connected:
                return  # woken again on reconnection
            subject, payload = self._waiting.popleft()
            self._waiting_bytes -= len(payload)
            try:
                await client.publish(subject, payload)
            except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError):
                self._waiting.appendleft((subject, payload))
                self._waiting_bytes += len(payload)
                return
            except (nats.errors.Error, TimeoutError) as error:
                # Too large, or no subject: it will not be taken later either.
                self._dropped += 1
                log.warning("bus-message-refused", subject=subject, error=repr(error))

    def _register(self, subject: str, receive: Callable[[Msg], Any]) -> Callable[[], None]:
        key = self._next_key
        self._next_key += 1
        self._handlers[key] = (subject, receive)
        if self._client is not None:
            self._spawn(self._subscribe_now(key))

        def end() -> None:
            self._handlers.pop(key, None)
            subscription = self._live.pop(key, None)
            if subscription is not None:
                self._spawn(self._unsubscribe(subscription))

        return end

    async def _subscribe_now(self, key: int) -> None:
        entry = self._handlers.get(key)
        if entry is None or self._client is None or key in self._live:
            return
        subject, receive = entry
        try:
            subscription = await self._client.subscribe(
                subject, cb=receive, pending_msgs_limit=65_536, pending_bytes_limit=64 << 20
            )
        except nats.errors.Error as error:
            log.warning("bus-subscribe-failed", subject=subject, error=str(error))
            return
        if key in self._handlers:
            self._live[key] = subscription
        else:  # it was ended meanwhile
            await self._unsubscribe(subscription)

    async def _unsubscribe(self, subscription: Any) -> None:
        try:
            await subscription.unsubscribe()
        except nats.errors.Error as error:
            log.debug("bus-unsubscribe", error=str(error))

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self, client: Client) -> None:
        try:
            async with asyncio.timeout(1.0):
                await client.close()
        except (TimeoutError, OSError, nats.errors.Error) as error:
            log.debug("bus-close", error=str(error))

    async def _on_error(self, error: Exception) -> None:
        if not self.connected and not self._was_away:
            self._was_away = True
            log.warning("bus-away", url=masked_url(self._url), error=repr(error))
        else:
            log.debug("bus-error", error=repr(error))

    async def _on_disconnected(self) -> None:
        if self._client is not None and not self._was_away:
            self._was_away = True
            log.warning("bus-lost", url=masked_url(self._url))

    async def _on_closed(self) -> None:
        self._wake.set()

    async def _on_reconnected(self) -> None:
        log.info("bus-back", url=masked_url(self._url))
        self._tell_reconnected()

    def _tell_reconnected(self) -> None:
        self._wake.set()
        if self._was_away:
            self._was_away = False
            for callback in tuple(self._reconnect_callbacks):
                callback()
