"""Endpoints from the entries of an endpoint list: which pool's, on which ports, under which uid."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pointsman_common.inference_pool import InferencePool
from pointsman_datalayer.core.engine_mappings import engine_of
from pointsman_datalayer.core.manifest_kinds import ListedEndpoint, split_list
from pointsman_datalayer.core.manifests import ManifestError

ACTIVE_PORTS = ("llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports")
"""Annotation or label that restricts the ports; the first that is present counts."""


@dataclass(frozen=True, slots=True)
class DiscoveredEndpoint:
    """What discovery knows of an endpoint; its engine has not been asked."""

    uid: str
    name: str
    address: str
    labels: Mapping[str, str]
    engine: str
    rank: int = 0
    metrics_url: str = ""
    """Where its metrics are, when not under its address."""
    kv_events_url: str = ""
    """Where it publishes its KV events, when not where the settings say."""
    kv_replay_url: str = ""
    problem: str = ""
    """Why it cannot be reached at all; empty: it can be tried."""


def selects(pool: InferencePool, entry: ListedEndpoint) -> bool:
    """Whether an entry belongs to a pool: same namespace, and all labels of the selector."""
    return entry.namespace == pool.name.partition("/")[0] and all(
        entry.labels.get(key) == value for key, value in pool.selector.items()
    )


def endpoints_of(
    place: str,
    entry: ListedEndpoint,
    pool: InferencePool,
    resolve: Callable[[str], str | None],
) -> list[DiscoveredEndpoint]:
    ip = resolve(entry.address)
    host = ip or entry.address
    shown = f"[{host}]" if ":" in host else host
    ports = _ports(place, entry, pool)
    return [
        DiscoveredEndpoint(
            uid=_uid(entry, f"{shown}:{port}", several=len(ports) > 1, rank=rank),
            name=f"{entry.namespace}/{entry.name}-rank-{rank}",
            address=f"{shown}:{port}",
            labels=entry.labels,
            engine=engine_of(entry.labels),
            rank=rank,
            metrics_url=entry.metrics_url,
            kv_events_url=entry.kv_events_url,
            kv_replay_url=entry.kv_replay_url,
            problem="" if ip else f"host {entry.address!r} has no address",
        )
        for rank, port in ports
    ]


def _ports(place: str, entry: ListedEndpoint, pool: InferencePool) -> list[tuple[int, int]]:
    """(rank, port) of each endpoint of an entry."""
    key = f"endpoints[{entry.name}]"
    ranks = list(enumerate(pool.target_ports))
    if entry.port is not None:
        port = _port(place, f"{key}.port", str(entry.port))
        ranks = [known for known in ranks if known[1] == port] or [(0, port)]
    active = next(
        (
            fields[name]
            for name in ACTIVE_PORTS
            for fields in (entry.annotations, entry.labels)
            if name in fields
        ),
        None,
    )
    if active is None:
        return ranks
    allowed = {_port(place, f"{key}.active-ports", part) for part in split_list(active)}
    return [(rank, port) for rank, port in ranks if port in allowed]


def _port(place: str, key: str, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ManifestError(place, key, f"{text!r} is no port")
    return int(text)


def _uid(entry: ListedEndpoint, address: str, *, several: bool, rank: int) -> str:
    """Given, else derived from name and address, so that it outlives a restart of ours."""
    if entry.uid:
        return f"{entry.uid}-rank-{rank}" if several else entry.uid
    named = f"{entry.namespace}/{entry.name}@{address}"
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def refuse_same_uid(pool: str, endpoints: list[DiscoveredEndpoint]) -> None:
    names: dict[str, str] = {}
    for endpoint in endpoints:
        if endpoint.uid in names:
            raise ManifestError(
                pool, "endpoints", f"{endpoint.name} and {names[endpoint.uid]} have the same uid"
            )
        names[endpoint.uid] = endpoint.name
