"""What a channel with several addresses may be told."""

from dataclasses import dataclass, field

from wire.balancing.backoff import BackoffRules


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancingRules:
    connections_per_address: int = 1
    """More than one help where a server limits the streams of a connection."""

    connect_timeout_s: float = 2.0
    """Until an address takes a connection, TLS included; the HTTP/2 greeting that follows has
    `Limits.handshake_timeout_s`."""

    ejection: BackoffRules = field(
        default_factory=lambda: BackoffRules(first_s=0.5, factor=2.0, longest_s=10.0)
    )
    """How long a connection is passed over whose calls end with UNAVAILABLE."""

    resolve_interval_s: float = 5.0
    """Names are asked for again after so long, a fifth more or less."""

    resolve_pause_s: float = 0.5
    """The shortest time between two questions: after a lost connection or a failed dial, names are
    asked for again as soon as this allows."""

    resolve_timeout_s: float = 5.0
    """Until a name must be resolved; past it the addresses known before stay."""

    max_addresses_per_name: int = 64
    """Of a name that stands for more, only so many get a connection: the same ones each time."""
