"""What a user may choose about the gateway's response path."""

from enum import StrEnum


class ResponseMode(StrEnum):
    """How much of a response passes through the edge."""

    STREAMED = "streamed"
    FULL_DUPLEX = "full-duplex"
    NONE = "none"


class CompletionSignal(StrEnum):
    """What tells the edge that a response has ended."""

    ACCESS_LOG = "access-log"
    STREAM = "stream"
