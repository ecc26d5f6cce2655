"""Whose request it is: the fairness id, which with the priority names a flow."""

import xxhash

DEFAULT_FLOW = "default-flow"
MAX_CHARACTERS = 128


def fairness_id_of(header: str | None) -> str:
    """The fairness id that the client's header names, in at most 128 characters.

    A longer one is cut and ended with its hash, so that two tenants stay two.
    """
    if not header:
        return DEFAULT_FLOW
    if len(header) <= MAX_CHARACTERS:
        return header
    digest = xxhash.xxh64_hexdigest(header.encode())
    return f"{header[: MAX_CHARACTERS - len(digest) - 1]}-{digest}"
