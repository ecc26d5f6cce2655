"""`grpc.health.v1` for a `Server`: https://github.com/grpc/grpc/blob/master/doc/health-checking.md

    health = HealthService()
    health.add_to(server)
    health.set("demo.Echo", serving=True)   # as a part gets ready, or stops being so
    health.set("", serving=True)                       # the server as a whole
    ...
    health.shut_down()                                 # ahead of `server.drain`

`Check` of a service that nobody set is NOT_FOUND, and `Watch` says SERVICE_UNKNOWN until it is set.
Where readiness is a question rather than an event, `HealthService(answer)` asks a function instead:
`answer(service)` is True, False, or `None` for a service that there is not; call `refresh` when
watchers should hear of a change.
"""

import asyncio
from collections.abc import Callable
from enum import IntEnum

from wire.handlers import BidiStream
from wire.server import Server
from wire.status import RpcError, RpcStatus

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"

_FIELD_1_BYTES = 0x0A
_FIELD_1_VARINT = 0x08
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_NAME = 1024


class ServingStatus(IntEnum):
    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class HealthService:
    """Knows which services are serving, answers those who ask, and tells those who watch."""

    def __init__(
        self,
        answer: Callable[[str], bool | None] | None = None,
        *,
        max_watchers: int = 1000,
    ) -> None:
        """Watchers over the limit are refused with RESOURCE_EXHAUSTED."""
        self._serving: dict[str, bool] = {}
        self._answer = answer or self._serving.get
        self._max_watchers = max_watchers
        self._watchers: set[asyncio.Event] = set()
        self._is_shut_down = False

    def add_to(self, server: Server) -> None:
        """Serve `Check` and `Watch`."""
        server.unary(CHECK, self._check)
        server.bidi(WATCH, self._watch)

    def set(self, service: str, *, serving: bool) -> None:
        """Say how a service is; `""` is the server as a whole."""
        self._serving[service] = serving
        self.refresh()

    def refresh(self) -> None:
        """Look again: watchers are told where the answer has changed."""
        for news in self._watchers:
            news.set()

    def shut_down(self) -> None:
        """All that serve do so no longer, whatever is set later. Watchers are told and their calls
        ended, so that none holds up a drain."""
        self._is_shut_down = True
        self.refresh()

    def status_of(self, service: str) -> ServingStatus:
        serving = self._answer(service)
        if serving is None:
            return ServingStatus.SERVICE_UNKNOWN
        is_serving = serving and not self._is_shut_down
        return ServingStatus.SERVING if is_serving else ServingStatus.NOT_SERVING

    def _check(self, message: bytes) -> bytes:
        status = self.status_of(decode_request(message))
        if status is ServingStatus.SERVICE_UNKNOWN:
            raise RpcError(RpcStatus.NOT_FOUND, "unknown service")
        return encode_response(status)

    async def _watch(self, stream: BidiStream) -> None:
        """One message of the client, then the status now and after each change."""
        service = decode_request(await stream.receive() or b"")
        if len(self._watchers) >= self._max_watchers:
            raise RpcError(RpcStatus.RESOURCE_EXHAUSTED, "too many watch")
        news = asyncio.Event()
        self._watchers.add(news)
        told: ServingStatus | None = None
        try:
            while True:
                news.clear()
                status = self.status_of(service)
                if status is not told:
                    await stream.send(encode_response(status))
                    told = status
                if self._is_shut_down:
                    return  # OK: behind an error, grpcio may drop the message
                await news.wait()
        finally:
            self._watchers.discard(news)


def encode_request(service: str) -> bytes:
    """HealthCheckRequest: the service is field 1, a string of up to 1024 octets."""
    name = service.encode()
    return bytes((_FIELD_1_BYTES,)) + _varint(len(name)) + name if name else b""


def decode_request(message: bytes) -> str:
    """The service of a HealthCheckRequest; fields that are not known are passed over.

    Raises:
        RpcError: INVALID_ARGUMENT, it is none, or its name is too long.
    """
    position, service = 0, b""
    try:
        while position < len(message):
            tag, position = _read_varint(message, position)
            kind = tag & 7
            if kind == _BYTES:
                size, position = _read_varint(message, position)
                value, position = message[position : position + size], position + size
                if tag == _FIELD_1_BYTES:
                    service = value
            elif kind == _VARINT:
                _, position = _read_varint(message, position)
            elif kind in (_FIXED64, _FIXED32):
                position += 8 if kind == _FIXED64 else 4
            else:
                raise ValueError("unknown wire type")
        if position > len(message) or len(service) > _LONGEST_NAME:
            raise ValueError("cut off, or too long")
        return service.decode()
    except (ValueError, IndexError) as error:
        raise RpcError(RpcStatus.INVALID_ARGUMENT, f"no HealthCheckRequest: {error}") from error


def encode_response(status: ServingStatus) -> bytes:
    """HealthCheckResponse: the status is field 1, an enum."""
    return bytes((_FIELD_1_VARINT, status)) if status else b""


def decode_response(message: bytes) -> ServingStatus:
    """Raises ValueError when it is none that `encode_response` wrote."""
    if not message:
        return ServingStatus.UNKNOWN
    if len(message) != 2 or message[0] != _FIELD_1_VARINT:
        raise ValueError("no HealthCheckResponse")
    return ServingStatus(message[1])


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """Raises IndexError at the end of the message, ValueError over 64 bits."""
    number = 0
    for shift in range(0, 70, 7):
        octet = message[position]
        position += 1
        number |= (octet & 0x7F) << shift
        if octet < 0x80:
            return number, position
    raise ValueError("number of too many octets")
