"""Decoding a JSON body once, partially, with errors that a client can act on.

Unknown fields are skipped, never built. Of duplicate keys the last counts, as in most decoders.
"""

from typing import TypeVar

import msgspec

from pointsman_common.errors import BadRequestError

T = TypeVar("T")

UNREADABLE = "error unmarshaling request bodyMap"
"""How upstream's message begins when a body is no JSON object."""

MAX_UINT32 = 0xFFFFFFFF
MAX_SHOWN = 200
MAX_MODEL_CHARACTERS = 1024
"""A model's name travels on every hop and is a metric label."""

OptionalRaw = msgspec.Raw | msgspec.UnsetType
Tokens = int | float | None
"""A number of tokens; JSON has but one kind of number, so 16.0 is one."""


def decode_body(decoder: "msgspec.json.Decoder[T]", body: bytes, *, request: str) -> T:
    """Decode a body; `request` names its kind in messages: "chat completions".

    Raises:
        BadRequestError: no JSON, not UTF-8, nested too deeply, or a field of a wrong type.
    """
    try:
        if not body.isascii():
            body.decode()  # the decoder checks only the strings that it builds
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise BadRequestError(f"{UNREADABLE}: invalid UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise BadRequestError(f"{UNREADABLE}: nested too deeply") from error
    except msgspec.ValidationError as error:
        raise _explained(error, request) from error
    except msgspec.DecodeError as error:
        why = "unexpected end of JSON input" if "truncated" in str(error) else _one_line(str(error))
        raise BadRequestError(f"{UNREADABLE}: {why}") from error


def decode_field(
    decoder: "msgspec.json.Decoder[T]", raw: msgspec.Raw, *, request: str, param: str
) -> T:
    """Decode a field that was kept raw. Raises BadRequestError, naming it."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _explained(error, request, within=param) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid(request, f"{param} cannot be read", param=param) from error


def invalid(request: str, why: str, *, param: str) -> BadRequestError:
    """The refusal of a request that is JSON, and still no such request."""
    return BadRequestError(f"invalid {request} request: {why}", param=param)


def model_of(model: str | None) -> str:
    """The model, which must be named.

    Raises:
        BadRequestError: absent, null, empty, or far too long.
    """
    if not model:
        raise BadRequestError("model not found in request body", param="model")
    if len(model) > MAX_MODEL_CHARACTERS:
        why = f"model must have at most {MAX_MODEL_CHARACTERS} characters"
        raise BadRequestError(why, param="model")
    return model


def token_count(*candidates: tuple[str, Tokens], request: str) -> int:
    """The first number of tokens that was given, as an unsigned 32-bit value; 0: none was.

    The model server refuses what is out of its range: here a negative number means nothing.
    Raises BadRequestError for a number with a fraction.
    """
    for name, value in candidates:
        if value is None:
            continue
        if isinstance(value, float) and not value.is_integer():
            raise invalid(request, f"{name} must be a whole number", param=name)
        return min(max(int(value), 0), MAX_UINT32)
    return 0


def is_given(raw: OptionalRaw) -> bool:
    """Whether a raw field is there and not null."""
    return isinstance(raw, msgspec.Raw) and bytes(raw) != b"null"


def raw_bytes(raw: OptionalRaw) -> bytes:
    """A raw field's JSON as the client wrote it; empty when it is absent or null."""
    return bytes(raw) if isinstance(raw, msgspec.Raw) and bytes(raw) != b"null" else b""


def _explained(
    error: msgspec.ValidationError, request: str, *, within: str = ""
) -> BadRequestError:
    """msgspec's message is "Expected `str`, got `int` - at `$.messages[0].role`"."""
    why, _, where = str(error).partition(" - at `$")
    why = why.replace("`", "")
    where = (within + where.rstrip("`")).lstrip(".")
    if not where:
        return BadRequestError(f"{UNREADABLE}: {why[:1].lower()}{why[1:]}")
    return invalid(request, f"{where}: {why[:1].lower()}{why[1:]}", param=where)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_SHOWN]
