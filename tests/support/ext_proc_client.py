"""Speaks ext_proc as a gateway does, over a real stream."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as services
from google.protobuf import json_format, struct_pb2

DESTINATION = "x-gateway-destination-endpoint"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"
SUBSET_KEY = "x-gateway-destination-endpoint-subset"
OVERWRITE = base_pb2.HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


@dataclass
class Reply:
    """The answers to one request, gathered until the gateway may send it, or is told not to."""

    messages: list[Any] = field(default_factory=list)

    @property
    def immediate(self) -> Any:
        for message in self.messages:
            if message.WhichOneof("response") == "immediate_response":
                return message.immediate_response
        return None

    @property
    def status(self) -> int:
        """Of an immediate answer; 0 when the request is routed."""
        return int(self.immediate.status.code) if self.immediate is not None else 0

    @property
    def text(self) -> str:
        return self.immediate.body.decode() if self.immediate is not None else ""

    def immediate_header(self, name: str) -> str | None:
        for option in self.immediate.headers.set_headers:
            if option.header.key.lower() == name:
                value: bytes = option.header.raw_value or option.header.value.encode()
                return value.decode()
        return None

    @property
    def header_reply(self) -> Any:
        return self.messages[0].request_headers.response

    @property
    def set_headers(self) -> list[tuple[str, str]]:
        return [
            (option.header.key, option.header.raw_value.decode())
            for option in self.header_reply.header_mutation.set_headers
        ]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.set_headers if key.lower() == name.lower()), None)

    @property
    def removed(self) -> set[str]:
        return set(self.header_reply.header_mutation.remove_headers)

    @property
    def destination(self) -> str | None:
        return self.header(DESTINATION)

    @property
    def metadata(self) -> dict[str, Any]:
        plain: dict[str, Any] = json_format.MessageToDict(self.messages[0].dynamic_metadata)
        return dict(plain.get("envoy.lb", {}))

    @property
    def body_pieces(self) -> list[Any]:
        return [
            message.request_body.response.body_mutation.streamed_response
            for message in self.messages
            if message.WhichOneof("response") == "request_body"
        ]

    @property
    def body(self) -> bytes:
        return b"".join(piece.body for piece in self.body_pieces)


def request_headers(
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    *,
    path: str = "/v1/completions",
    method: str = "POST",
    request_id: str | None = "r1",
    end: bool = False,
    as_value: bool = False,
    subset: object = None,
) -> Any:
    """A request-headers message; `as_value` fills `value` in place of `raw_value`."""
    listed = [(":method", method), (":path", path), (":authority", "pool.test")]
    if request_id is not None:
        listed.append(("x-request-id", request_id))
    listed.extend(headers.items() if isinstance(headers, Mapping) else headers)
    message = pb.ProcessingRequest()
    message.request_headers.end_of_stream = end
    for key, value in listed:
        entry = message.request_headers.headers.headers.add(key=key)
        if as_value:
            entry.value = value
        else:
            entry.raw_value = value.encode()
    _with_subset(message, subset)
    return message


def request_body(body: bytes | str, *, end: bool, subset: object = None) -> Any:
    raw = body.encode() if isinstance(body, str) else body
    message = pb.ProcessingRequest()
    message.request_body.body = raw
    message.request_body.end_of_stream = end
    _with_subset(message, subset)
    return message


def response_headers(
    headers: Mapping[str, str], *, status: str = "200", served: str | None = None
) -> Any:
    message = pb.ProcessingRequest()
    for key, value in {":status": status, **headers}.items():
        message.response_headers.headers.headers.add(key=key, raw_value=value.encode())
    if served is not None:
        metadata = struct_pb2.Struct()
        metadata.update({"x-gateway-destination-endpoint-served": served})
        message.metadata_context.filter_metadata["envoy.lb"].CopyFrom(metadata)
    return message


def response_body(body: bytes | str, *, end: bool) -> Any:
    message = pb.ProcessingRequest()
    message.response_body.body = body.encode() if isinstance(body, str) else body
    message.response_body.end_of_stream = end
    return message


def request_trailers() -> Any:
    message = pb.ProcessingRequest()
    message.request_trailers.SetInParent()
    return message


def _with_subset(message: Any, subset: object) -> None:
    if subset is not None:
        metadata = struct_pb2.Struct()
        json_format.ParseDict({SUBSET_KEY: subset}, metadata)
        message.metadata_context.filter_metadata[SUBSET_NAMESPACE].CopyFrom(metadata)


class GatewayStream:
    """One HTTP exchange."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, *messages: Any) -> None:
        for message in messages:
            await self._call.write(message)

    async def receive(self, *, timeout_s: float = 10.0) -> Any:
        """The next answer; `None` when the stream has ended with OK."""
        async with asyncio.timeout(timeout_s):
            message = await self._call.read()
        return None if message is grpc.aio.EOF else message

    async def silent_for(self, seconds: float) -> bool:
        """Whether no answer comes for a while. Ends the stream's use: the read is cancelled."""
        try:
            await self.receive(timeout_s=seconds)
        except TimeoutError:
            return True
        return False

    async def reply(self, *, timeout_s: float = 10.0) -> Reply:
        """All answers to the request: up to the last body piece, or an immediate response."""
        gathered = Reply()
        while True:
            message = await self.receive(timeout_s=timeout_s)
            assert message is not None, f"the stream ended after {gathered.messages}"
            gathered.messages.append(message)
            kind = message.WhichOneof("response")
            if kind == "immediate_response":
                return gathered
            if kind == "request_body":
                if message.request_body.response.body_mutation.streamed_response.end_of_stream:
                    return gathered
            elif kind == "request_headers" and self.bodiless:
                return gathered

    bodiless = False

    async def done(self) -> None:
        """Half-close, as a gateway whose exchange is over."""
        await self._call.done_writing()

    def cancel(self) -> None:
        """Reset the stream, as a gateway whose client has gone."""
        self._call.cancel()


class Gateway:
    """A gateway's connection to an edge."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", 64 << 20)]
        )
        self._stub = services.ExternalProcessorStub(self._channel)

    def open(self) -> GatewayStream:
        return GatewayStream(self._stub.Process())

    async def ask(self, *messages: Any, timeout_s: float = 10.0) -> Reply:
        """Send one request and leave its stream open until the reply is there."""
        stream = self.open()
        await stream.send(*messages)
        reply = await stream.reply(timeout_s=timeout_s)
        await stream.done()
        return reply

    async def get(self, path: str = "/v1/models", *, subset: object = None) -> Reply:
        """A request without a body."""
        stream = self.open()
        stream.bodiless = True
        await stream.send(request_headers(path=path, method="GET", end=True, subset=subset))
        reply = await stream.reply()
        await stream.done()
        return reply

    async def close(self) -> None:
        await self._channel.close()
