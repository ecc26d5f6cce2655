"""What a rule may ask of another service, as values. An adapter does the asking.

A rule that asks is a generator: `reply = yield HttpCallout(...)`. A callout that fails is thrown
into it as a RuleFailedError, which it need not catch: the rule's `onFailure` says what follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_REPLY_BYTES = 1 << 20
"""A longer reply is a failure: nothing that a rule may use is longer."""


@dataclass(frozen=True, slots=True)
class HttpCallout:
    """A `POST` of a JSON body."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    max_reply_bytes: int = MAX_REPLY_BYTES


@dataclass(frozen=True, slots=True)
class RpcCallout:
    """A unary gRPC call."""

    url: str
    """A comma list of `grpc://host:port` and `unix:///path`."""
    method: str
    """`/package.Service/Method`."""
    message: bytes
    max_reply_bytes: int = MAX_REPLY_BYTES


Callout = HttpCallout | RpcCallout


@dataclass(frozen=True, slots=True)
class CalloutReply:
    """An answer: of HTTP one with a status of 200–299."""

    body: bytes


class RuleFailedError(Exception):
    """A rule could not do its work. `kind` is a metric label and one of the words below."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    BAD_REPLY = "bad-reply"
    """An error status, or an answer that is not what it should be."""
    BUSY = "busy"
    """As many callouts of the rule are open as may be."""
    CIRCUIT_OPEN = "circuit-open"
    """It failed too often lately, and is left alone for a while."""
    UNSUITABLE = "unsuitable"
    """The rule cannot be applied to such a request."""
    ERROR = "error"
    """The rule's own code raised."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
