"""How a call ends: the status codes of gRPC, and the error that carries one."""

from collections.abc import Mapping
from enum import IntEnum

Metadata = Mapping[str, str | bytes]
"""By lower-case key: bytes for keys that end with `-bin`, printable ASCII for others."""


class RpcStatus(IntEnum):
    """The codes of https://grpc.github.io/grpc/core/md_doc_statuscodes.html, by number."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call that ended with another status than OK; handlers raise it to choose the status.

    `trailers` go with it, such as `grpc-status-details-bin`.
    """

    def __init__(
        self, status: RpcStatus, message: str = "", trailers: Metadata | None = None
    ) -> None:
        super().__init__(f"{status.name}: {message}" if message else status.name)
        self.status, self.message = status, message
        self.trailers: Metadata = trailers or {}
