"""How the names of addresses are resolved; another may be given to a channel."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Protocol

from wire.address import TcpAddress


class Resolver(Protocol):
    async def resolve(self, host: str, port: int) -> Sequence[TcpAddress]:
        """All addresses of `host`, with the port of each. Any exception is a failure; the channel
        says how long it waits."""
        ...


class SystemResolver:
    """The resolver of the system, IPv4 and IPv6. It cannot be interrupted, so a question that
    takes long is shared by those who ask in the meantime instead of being asked again."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], asyncio.Future[list[TcpAddress]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[TcpAddress]:
        question = self._open.get((host, port))
        if question is None:
            question = asyncio.ensure_future(self._ask(host, port))
            self._open[host, port] = question
            question.add_done_callback(lambda done: self._forget((host, port), done))
        return await asyncio.shield(question)

    async def _ask(self, host: str, port: int) -> list[TcpAddress]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [TcpAddress(str(entry[4][0]), port) for entry in found]

    def _forget(self, key: tuple[str, int], done: asyncio.Future[list[TcpAddress]]) -> None:
        del self._open[key]
        if not done.cancelled():
            done.exception()  # those who asked have seen it, or left
