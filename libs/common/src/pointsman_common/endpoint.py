"""An endpoint and what its engine reports, as every layer sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_NOTHING: Mapping[str, float] = MappingProxyType({})
_NO_LABELS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class EndpointMetrics:
    """The engine's last report. `None` means never reported: unknown, not zero."""

    waiting_requests: int | None = None
    running_requests: int | None = None
    kv_cache_utilization: float | None = None
    """0 to 1."""
    active_loras: frozenset[str] = frozenset()
    waiting_loras: frozenset[str] = frozenset()
    max_loras: int | None = None
    block_size_tokens: int | None = None
    kv_cache_blocks: int | None = None
    read_at: float | None = None
    """When the values left the engine, in the reader's monotonic seconds; `None`: never."""
    attributes: Mapping[str, float] = field(default_factory=lambda: _NOTHING)

    def age_s(self, now: float) -> float:
        """Seconds since the values were read; infinite when they never were."""
        return float("inf") if self.read_at is None else max(0.0, now - self.read_at)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to send requests to: a model server's port."""

    uid: str
    """Changes when the process behind the address is replaced; state is keyed by it."""
    name: str
    """`<namespace>/<pod>-rank-<i>`."""
    address: str
    """`ip:port`, IPv6 in brackets."""
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    ready: bool = True
    not_ready_reason: str = ""
    engine: str = "vllm"
    rank: int = 0
    epoch: int = 0
    """Times that the engine was seen to restart behind the same uid: its cache is then empty."""
    metrics: EndpointMetrics = field(default_factory=EndpointMetrics)

    def measured(self, metrics: EndpointMetrics) -> "Endpoint":
        """The same with other metrics; several times as fast as `dataclasses.replace`."""
        return Endpoint(
            self.uid,
            self.name,
            self.address,
            self.labels,
            self.ready,
            self.not_ready_reason,
            self.engine,
            self.rank,
            self.epoch,
            metrics,
        )


def ip_of(address: str) -> str:
    """The IP of `ip:port`, `[ipv6]:port`, or of a bare IP."""
    if address.startswith("["):
        return address[1 : address.index("]")] if "]" in address else address[1:]
    return address.rpartition(":")[0] if address.count(":") == 1 else address


def in_subset(address: str, allowed: frozenset[str]) -> bool:
    """Whether the gateway's subset allows an endpoint.

    An entry with a port must equal the address; an entry without one allows every port of its IP.
    """
    return address in allowed or ip_of(address) in allowed
