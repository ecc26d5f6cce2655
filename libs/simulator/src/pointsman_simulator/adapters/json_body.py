"""Bodies of requests, decoded into structs; what does not fit is answered as vLLM would."""

from typing import TypeVar

import msgspec

from pointsman_simulator.adapters.vllm_errors import raise_body_error

Body = TypeVar("Body")


def decode_body(decoder: msgspec.json.Decoder[Body], body: bytes) -> Body:
    """Return the decoded body.

    Raises:
        ApiError: 400, saying where and why.
    """
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise_body_error(body, error)
