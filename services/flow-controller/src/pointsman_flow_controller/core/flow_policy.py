"""Everything that decides how one pool is controlled: what an EndpointPickerConfig comes to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pointsman_flow_controller.core.plugin_protocols import (
    FairnessPolicy,
    OrderingPolicy,
    SaturationDetector,
    UsageLimitPolicy,
)


@dataclass(frozen=True)
class BandPolicy:
    """How the flows of one priority share it, and how much may wait."""

    make_fairness: Callable[[], FairnessPolicy]
    ordering: OrderingPolicy
    max_requests: int = 5_000
    max_bytes: int = 1_000_000_000


@dataclass(frozen=True)
class FlowPolicy:
    make_detector: Callable[[], SaturationDetector]
    make_usage_limit: Callable[[], UsageLimitPolicy]
    """Each pool has its own: what tenants have used is counted per pool."""
    band: BandPolicy
    """Of the priorities from 0 on that are not named in `bands`."""
    negative_band: BandPolicy
    """Of the priorities below 0 that are not named."""
    bands: Mapping[int, BandPolicy] = field(default_factory=dict[int, BandPolicy])
    queueing: bool = True
    """False: nothing waits; negative priorities are shed by a full pool, all others go."""
    ttl_s: float = 60.0
    """Longest wait; infinite: no limit."""
    no_endpoint_ttl_s: float = 60.0
    """The same while the pool is empty."""
    max_requests: int = 0
    """Over all bands; 0: no limit."""
    max_bytes: int = 0
    evicts_in_flight: bool = False
    """Whether running requests of negative priority are ended while a higher one waits for room."""

    def band_policy(self, priority: int) -> BandPolicy:
        default = self.band if priority >= 0 else self.negative_band
        return self.bands.get(priority, default)
