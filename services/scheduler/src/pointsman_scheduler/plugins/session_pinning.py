"""To which endpoint a session is pinned: common to the session affinity scorer and filter.

Source: llm-d-router's session-affinity plugins.
"""

import binascii
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Literal, Protocol

import msgspec

from pointsman_common.endpoint import Endpoint
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


class EncodedEndpointHeader(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"
):
    header: Annotated[str, msgspec.Meta(min_length=1)] = "x-session-token"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    header: Annotated[str, msgspec.Meta(min_length=1)]


class SessionId(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    sources: Annotated[tuple[Source, ...], msgspec.Meta(min_length=1)] = (Source("x-session-id"),)
    """Headers that may hold the session's id; the first that does counts."""
    eviction_ttl_seconds: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    """How long a session that sends nothing stays bound."""
    eviction_sweep_seconds: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """Accepted and without effect: each pick forgets what has expired."""


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    strategy: Literal["encoded_endpoint_header", "session_id"] = "encoded_endpoint_header"
    encoded_endpoint_header_config: EncodedEndpointHeader = EncodedEndpointHeader()
    session_id_config: SessionId = SessionId()
    profile_name: str = ""
    """Accepted and without effect: a session is pinned to the primary endpoint."""


class Pinning(Protocol):
    def row(self, request: SchedulingRequest, candidates: Candidates) -> int | None:
        """Of the endpoint that the session is pinned to; `None`: of none of them."""
        ...

    def picked(
        self, request: SchedulingRequest, candidates: Candidates, endpoint: Endpoint
    ) -> None: ...

    def response_headers(
        self, request: SchedulingRequest, endpoint: Endpoint
    ) -> Mapping[str, str]: ...

    def memory_of(self, request: SchedulingRequest, candidates: Candidates) -> bytes: ...

    def recall(self, memory: bytes, request: SchedulingRequest, candidates: Candidates) -> None: ...


class EncodedEndpointPinning:
    """The client brings the endpoint's name back, in base64, as the last answer told it."""

    def __init__(self, config: EncodedEndpointHeader) -> None:
        self._header = config.header.lower()

    def row(self, request: SchedulingRequest, candidates: Candidates) -> int | None:
        token = request.headers.get(self._header, "")
        if not token:
            return None
        try:
            name = b64decode(token, validate=True).decode()
        except (binascii.Error, ValueError):
            return None
        rows = (row for row, one in enumerate(candidates.endpoints) if one.name == name)
        return next(rows, None)

    def picked(
        self, request: SchedulingRequest, candidates: Candidates, endpoint: Endpoint
    ) -> None:
        """Nothing is remembered here."""

    def response_headers(self, request: SchedulingRequest, endpoint: Endpoint) -> Mapping[str, str]:
        del request
        return {self._header: b64encode(endpoint.name.encode()).decode()}

    def memory_of(self, request: SchedulingRequest, candidates: Candidates) -> bytes:
        del request, candidates
        return b""

    def recall(self, memory: bytes, request: SchedulingRequest, candidates: Candidates) -> None:
        """Nothing is remembered here."""


class SessionIdPinning:
    """The client names its session, and each replica remembers where its sessions went.

    A session is bound by its first pick, and anew when its endpoint is not among the candidates.
    Beyond `sessions` the longest unused is forgotten.
    """

    def __init__(self, config: SessionId, *, sessions: int = 100_000) -> None:
        self._most = sessions
        self._headers = [source.header.lower() for source in config.sources]
        self._ttl_s = config.eviction_ttl_seconds
        self._bound: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Endpoint's uid and time of the last pick by session, longest unused first."""

    def row(self, request: SchedulingRequest, candidates: Candidates) -> int | None:
        uid, used_at = self._bound.get(self._session(request), ("", 0.0))
        if not uid or candidates.now - used_at > self._ttl_s:
            return None
        rows = (row for row, one in enumerate(candidates.endpoints) if one.uid == uid)
        return next(rows, None)

    def picked(
        self, request: SchedulingRequest, candidates: Candidates, endpoint: Endpoint
    ) -> None:
        session, now = self._session(request), candidates.now
        if not session:
            return
        row = self.row(request, candidates)
        bound_to = endpoint if row is None else candidates.endpoints[row]
        self._bound[session] = bound_to.uid, now
        self._bound.move_to_end(session)
        while len(self._bound) > self._most or self._longest_unused_s(now) > self._ttl_s:
            self._bound.popitem(last=False)

    def response_headers(self, request: SchedulingRequest, endpoint: Endpoint) -> Mapping[str, str]:
        del request, endpoint
        return {}

    def memory_of(self, request: SchedulingRequest, candidates: Candidates) -> bytes:
        """Uid of the endpoint that the session is bound to."""
        uid, used_at = self._bound.get(self._session(request), ("", 0.0))
        return b"" if candidates.now - used_at > self._ttl_s else uid.encode()

    def recall(self, memory: bytes, request: SchedulingRequest, candidates: Candidates) -> None:
        self._bound.clear()
        if memory:
            self._bound[self._session(request)] = memory.decode(), candidates.now

    def _session(self, request: SchedulingRequest) -> str:
        given = (request.headers.get(header, "") for header in self._headers)
        return next(filter(None, given), "")

    def _longest_unused_s(self, now: float) -> float:
        _, used_at = next(iter(self._bound.values()))
        return now - used_at


class SessionAffinity:
    """What the scorer and the filter have in common."""

    def __init__(self, parameters: Parameters) -> None:
        self._pinning: Pinning = (
            EncodedEndpointPinning(parameters.encoded_endpoint_header_config)
            if parameters.strategy == "encoded_endpoint_header"
            else SessionIdPinning(parameters.session_id_config)
        )

    def picked(
        self, request: SchedulingRequest, candidates: Candidates, endpoint: Endpoint
    ) -> None:
        self._pinning.picked(request, candidates, endpoint)

    def response_headers(self, request: SchedulingRequest, endpoint: Endpoint) -> Mapping[str, str]:
        return self._pinning.response_headers(request, endpoint)

    def memory_of(self, request: SchedulingRequest, candidates: Candidates) -> bytes:
        return self._pinning.memory_of(request, candidates)

    def recall(self, memory: bytes, request: SchedulingRequest, candidates: Candidates) -> None:
        self._pinning.recall(memory, request, candidates)
