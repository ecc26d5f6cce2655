"""Bodies and whole requests that the cases share."""

import json
from typing import Any

from support.ext_proc_client import (
    Gateway,
    GatewayStream,
    request_body,
    request_headers,
    response_body,
    response_headers,
)

E1, E2, E3 = (f"10.0.0.{index}:8000" for index in (1, 2, 3))


def completion(model: str = "m", prompt: str = "hi", **more: Any) -> bytes:
    """The body that the cases write as J(m)."""
    body = {"model": model, "prompt": prompt, "max_tokens": 10, **more}
    return json.dumps(body, separators=(",", ":")).encode()


def asks(body: bytes = completion(), **headers: str) -> list[Any]:
    """Headers and the whole body; `_` in a header's name stands for `-`."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return [request_headers(named), request_body(body, end=True)]


async def send(gateway: Gateway, **headers: str) -> GatewayStream:
    stream = gateway.open()
    await stream.send(*asks(completion(), **headers))
    return stream


async def finish(stream: GatewayStream, answer: bytes = b"{}") -> None:
    """Play the model server's answer to a routed request, and end the exchange."""
    await stream.send(
        response_headers({"content-type": "application/json"}), response_body(answer, end=True)
    )
    while (message := await stream.receive()) is not None:
        if message.WhichOneof("response") == "response_body":
            break
    await stream.done()
