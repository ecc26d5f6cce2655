"""The calling end of the grpcio engine: a channel of grpcio to each address, balanced as the wire
engine balances its connections."""

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import grpc
import grpc.aio

from wire.address import Endpoint, Target, grpcio_dial_target
from wire.asyncio_io.address_watch import AddressWatch
from wire.balancing.address_book import Changes
from wire.balancing.balancer import Balancer
from wire.balancing.rules import BalancingRules
from wire.grpcio_engine.errors import OUT_OF_LIFE, rpc_error_of, stopped
from wire.resolver import Resolver
from wire.status import RpcError, RpcStatus
from wire.tls import ClientTls

_LONGEST_LEAVE_S = 3600.0
"""How long the calls to an address that is no more may go on."""

_FAILED = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class GrpcioBidiCall:
    """See `wire.BidiCall`. Begins with the first await: the addresses may not be known before."""

    def __init__(
        self, channel: "GrpcioChannel", path: str, timeout_s: float | None, metadata: Any
    ) -> None:
        self._channel, self._path, self._metadata = channel, path, metadata
        self._deadline = _deadline(timeout_s)
        self._opening = asyncio.Lock()
        self._call: Any = None
        self._line: _Line | None = None
        self._is_cancelled = False

    async def send(self, message: bytes) -> None:
        call = self._call or await self._begun()
        with self._errors_translated():
            await call.write(message)

    async def done_writing(self) -> None:
        call = self._call or await self._begun()
        with self._errors_translated():
            await call.done_writing()

    async def receive(self) -> bytes | None:
        call = self._call or await self._begun()
        with self._errors_translated():
            message = await call.read()
        if isinstance(message, bytes):
            return message
        code = await call.code()  # grpcio's end-of-stream mark
        if code is not grpc.StatusCode.OK:
            trailers = dict(await call.trailing_metadata() or ())
            message = await call.details() or ""
            raise self._ended(RpcError(RpcStatus(code.value[0]), message, trailers))
        self._ended(RpcError(RpcStatus.OK))
        return None

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._call is not None:
            self._call.cancel()

    async def _begun(self) -> Any:
        async with self._opening:
            if self._call is None:
                if self._is_cancelled:
                    raise RpcError(RpcStatus.CANCELLED, "cancelled by its caller")
                self._adopt(
                    *await self._channel.begin_bidi(self._path, self._deadline, self._metadata)
                )
            return self._call

    def _adopt(self, call: Any, line: "_Line") -> None:
        self._call, self._line = call, line
        if self._is_cancelled:  # while it waited for an address
            call.cancel()

    @contextmanager
    def _errors_translated(self) -> Generator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self._ended(rpc_error_of(error)) from error
        except OUT_OF_LIFE as error:
            raise stopped(error) from error

    def _ended(self, end: RpcError) -> RpcError:
        if self._line is not None:
            self._channel.ended(self._line, end.status)
        return end


class GrpcioChannel:
    """See `wire.Channel`."""

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        max_message_bytes: int,
        tls: ClientTls | None,
        rules: BalancingRules,
        resolver: Resolver,
        rng: Random,
    ) -> None:
        self._tls, self._rules, self._max_message_bytes = tls, rules, max_message_bytes
        self._watch = AddressWatch(
            targets, rules=rules, resolver=resolver, rng=rng, on_changes=self._on_addresses
        )
        self._balancer = Balancer[_Line](rules.ejection, rng)
        self._lines: dict[Endpoint, list[_Line]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._resolved = asyncio.Event()
        self._is_closed = False

    async def unary(
        self,
        path: str,
        message: bytes,
        *,
        timeout_s: float,
        metadata: Mapping[str, str | bytes] | None = None,
    ) -> bytes:
        deadline = asyncio.get_running_loop().time() + timeout_s
        line = await self._line(deadline)
        line.open_calls += 1
        try:
            call = line.unary_method(path)(
                message, timeout=_left_s(deadline), metadata=_pairs(metadata)
            )
            reply = bytes(await call)
        except grpc.aio.AioRpcError as error:
            failure = rpc_error_of(error)
            self.ended(line, failure.status)
            raise failure from error
        except OUT_OF_LIFE as error:
            raise stopped(error) from error
        finally:
            line.open_calls -= 1
        self.ended(line, RpcStatus.OK)
        return reply

    def bidi(
        self,
        path: str,
        *,
        timeout_s: float | None,
        metadata: Mapping[str, str | bytes] | None,
    ) -> GrpcioBidiCall:
        return GrpcioBidiCall(self, path, timeout_s, _pairs(metadata))

    async def begin_bidi(
        self, path: str, deadline: float | None, metadata: Any
    ) -> tuple[Any, "_Line"]:
        """For `GrpcioBidiCall`, which tells how the call ended."""
        line = await self._line(deadline)
        method = line.channel.stream_stream(path)
        try:
            call = method(timeout=_left_s(deadline), metadata=metadata)
        except OUT_OF_LIFE as error:
            raise stopped(error) from error
        line.open_calls += 1

        def over(_: Any) -> None:
            line.open_calls -= 1

        call.add_done_callback(over)
        return call, line

    async def close(self) -> None:
        self._is_closed = True
        await self._watch.stop()
        for group in self._lines.values():
            for line in group:
                await line.channel.close()
        for task in self._leaving:
            task.cancel()
        if self._leaving:
            await asyncio.wait(self._leaving)
        self._resolved.set()

    async def _line(self, deadline: float | None) -> "_Line":
        """Raises RpcError when there is no address, or none known in time."""
        if self._is_closed:
            raise RpcError(RpcStatus.CANCELLED, "the channel is closed")
        if not self._watch.has_started:
            self._watch.start()
        now = asyncio.get_running_loop().time()
        if (line := self._pick(now)) is not None:
            return line
        try:
            async with asyncio.timeout_at(deadline):
                await self._resolved.wait()
        except TimeoutError as error:
            message = "no address was found within the deadline"
            raise RpcError(RpcStatus.DEADLINE_EXCEEDED, message) from error
        if (line := self._pick(now)) is not None:
            return line
        raise RpcError(RpcStatus.UNAVAILABLE, self._watch.failure or "the channel is closed")

    def _pick(self, now: float) -> "_Line | None":
        """One that is connected, or connecting, or (its call fails at once) any."""
        balancer = self._balancer
        if len(balancer.ready) < 2:
            return balancer.pick(now)
        states = {line: line.channel.get_state(try_to_connect=True) for line in balancer.ready}
        return (
            balancer.pick_among(now, lambda line: states[line] is grpc.ChannelConnectivity.READY)
            or balancer.pick_among(now, lambda line: states[line] not in _FAILED)
            or balancer.pick(now)
        )

    def ended(self, line: "_Line", status: RpcStatus) -> None:
        now = asyncio.get_running_loop().time()
        if status is RpcStatus.UNAVAILABLE:
            self._balancer.failed(line, now)
            self._watch.hurry()
        elif status is RpcStatus.OK and self._balancer.has_failures:
            self._balancer.succeeded(line, now)

    def _on_addresses(self, changes: Changes) -> None:
        loop = asyncio.get_running_loop()
        for endpoint in changes.added:
            group = [
                _Line(self._dial(endpoint)) for _ in range(self._rules.connections_per_address)
            ]
            self._lines[endpoint] = group
            for line in group:
                self._balancer.set_ready(line, True, loop.time())
        for endpoint in changes.removed:
            for line in self._lines.pop(endpoint):
                self._balancer.forget(line, loop.time())
                leaving = loop.create_task(line.channel.close(_LONGEST_LEAVE_S))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
        if not self._watch.is_first:
            self._resolved.set()

    def _dial(self, endpoint: Endpoint) -> Any:
        timeout_ms = int(self._rules.connect_timeout_s * 1000)
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", self._max_message_bytes),
            ("grpc.max_send_message_length", self._max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", 50),
            # The shortest time that an attempt is given, not the pause between two.
            ("grpc.min_reconnect_backoff_ms", timeout_ms),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        target, tls = grpcio_dial_target(endpoint.address), self._tls
        named = None if tls is None else tls.server_name
        options.append(("grpc.default_authority", named or endpoint.authority))
        if tls is None:
            return grpc.aio.insecure_channel(target, options=options)
        options.append(("grpc.ssl_target_name_override", named or endpoint.server_name))
        credentials = grpc.ssl_channel_credentials(tls.server_ca, tls.private_key, tls.certificate)
        return grpc.aio.secure_channel(target, credentials, options=options)


class _Line:
    """A channel of grpcio to one address."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.open_calls = 0
        self._methods: dict[str, Any] = {}

    def unary_method(self, path: str) -> Any:
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self.channel.unary_unary(path)
        return method


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s


def _left_s(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - asyncio.get_running_loop().time()


def _pairs(metadata: Mapping[str, str | bytes] | None) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key.lower(), value) for key, value in (metadata or {}).items())
