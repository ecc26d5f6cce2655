"""From manifests to pools: which objective, rule, configuration and endpoint belongs to which pool.

Objects of the older API group are left out where there are objects of the newer one of the same
kind, as upstream does.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from pointsman_common.contract_codec import encode_pool_config
from pointsman_common.inference_pool import InferencePool, RoutePolicy
from pointsman_datalayer.core.listed_endpoints import (
    DiscoveredEndpoint,
    endpoints_of,
    refuse_same_uid,
    selects,
)
from pointsman_datalayer.core.manifest_kinds import (
    GROUP,
    AlphaInferencePoolManifest,
    InferenceModelRewriteManifest,
    InferenceObjectiveManifest,
    InferencePoolManifest,
    ListedEndpoint,
    Manifest,
    ManifestOfAPool,
    Metadata,
    RoutePolicyManifest,
    group_of,
    pool_named_by,
    split_list,
)
from pointsman_datalayer.core.manifests import Found, ManifestError, Manifests, PickerConfig
from pointsman_datalayer.core.model_rules import RankedRule, in_precedence, ranked_rules

SERVED_MODELS = "pointsman.dev/served-models"
LORA_ADAPTERS = "pointsman.dev/lora-adapters"
PREFIX_BLOCK_TOKENS = "pointsman.dev/prefix-block-tokens"
POOL = "pointsman.dev/pool"

MAX_POLICIES_BYTES = 1 << 20
"""Of all RoutePolicies of one pool: a configuration is one message of the bus."""


@dataclass(frozen=True, slots=True)
class DiscoveredPool:
    config: InferencePool
    endpoints: tuple[DiscoveredEndpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Discovery:
    """All pools that the manifests describe."""

    pools: Mapping[str, DiscoveredPool] = field(default_factory=dict[str, DiscoveredPool])
    warnings: tuple[str, ...] = ()


def assemble_pools(
    manifests: Manifests, resolve: Callable[[str], str | None] = lambda host: host
) -> Discovery:
    """Build the pools. `resolve` gives the IP of an endpoint's host, `None` where there is none.

    Raises:
        ManifestError: a name twice, weights on some targets only, a port twice, two
            EndpointPickerConfigs for one pool, or an annotation that cannot be read.
    """
    warnings = list(manifests.warnings)
    _refuse_twice(manifests.found, warnings)
    found = _newest_group(manifests.found, warnings)
    pools = _pools(found, warnings)
    objectives, rules, policies = _of_their_pools(found, pools, warnings)
    picker_configs = _picker_configs(found, pools, warnings)
    listed = [(item, item.what) for item in found if isinstance(item.what, ListedEndpoint)]
    discovered: dict[str, DiscoveredPool] = {}
    for name, pool in pools.items():
        config = replace(
            pool,
            objectives=objectives[name],
            model_rules=in_precedence(rules[name], name, warnings),
            endpoint_picker_config=picker_configs.get(name, ""),
            route_policies=_route_policies(policies[name]),
        )
        endpoints = [
            endpoint
            for item, entry in listed
            if selects(pool, entry)
            for endpoint in endpoints_of(item.place, entry, pool, resolve)
        ]
        refuse_same_uid(name, endpoints)
        discovered[name] = DiscoveredPool(replace(config, hash=_hash(config)), tuple(endpoints))
    warnings += [
        f"{item.place}: endpoint {entry.name!r} is selected by no pool of its namespace"
        for item, entry in listed
        if not any(selects(pool, entry) for pool in pools.values())
    ]
    return Discovery(discovered, tuple(warnings))


def _of_their_pools(
    found: list[Found], pools: Mapping[str, InferencePool], warnings: list[str]
) -> tuple[
    dict[str, dict[str, int]],
    dict[str, list[RankedRule]],
    dict[str, list[tuple[str, RoutePolicyManifest]]],
]:
    """Priorities by objective name, rules, and policies with their places, of each pool."""
    objectives: dict[str, dict[str, int]] = {name: {} for name in pools}
    rules: dict[str, list[RankedRule]] = {name: [] for name in pools}
    policies: dict[str, list[tuple[str, RoutePolicyManifest]]] = {name: [] for name in pools}
    for item in found:
        what = item.what
        if not isinstance(what, ManifestOfAPool):
            continue
        pool = pool_named_by(what)
        if pool not in pools:
            warnings.append(f"{item.place}: spec.poolRef names pool {pool!r}, which is not there")
        elif isinstance(what, InferenceObjectiveManifest):
            objectives[pool][what.metadata.name] = what.spec.priority
        elif isinstance(what, RoutePolicyManifest):
            policies[pool].append((item.place, what))
        else:
            rules[pool] += ranked_rules(item, what)
    return objectives, rules, policies


def _route_policies(found: list[tuple[str, RoutePolicyManifest]]) -> tuple[RoutePolicy, ...]:
    size, policies = 0, list[RoutePolicy]()
    for place, policy in sorted(found, key=lambda entry: entry[1].metadata.name):
        spec = msgspec.json.encode(policy.spec, order="sorted").decode()
        size += len(spec)
        if size > MAX_POLICIES_BYTES:
            why = f"with it the pool's RoutePolicies have more than {MAX_POLICIES_BYTES} bytes"
            raise ManifestError(place, "spec", why)
        policies.append(RoutePolicy(policy.metadata.name, spec))
    return tuple(policies)


def _refuse_twice(found: Iterable[Found], warnings: list[str]) -> None:
    """Refuse an object that stands twice in one API group.

    Objects of different pools may share a name here, where an API server would keep one of them.
    """
    places: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for item in found:
        what = item.what
        if not isinstance(what, Manifest):
            continue
        meta = what.metadata
        pool = pool_named_by(what) if isinstance(what, ManifestOfAPool) else ""
        known = places.setdefault((what.api_version, what.kind, meta.namespace, meta.name), {})
        named = f"{what.kind} {meta.namespace}/{meta.name}"
        if pool in known:
            why = f"{named} stands also in {known[pool]}"
            raise ManifestError(item.place, "metadata.name", why)
        if known:
            warnings.append(f"{item.place}: {named} is there for another pool: no cluster has both")
        known[pool] = item.place


def newer_kinds(manifests: Iterable[Manifest]) -> frozenset[str]:
    """Kinds of which there are objects of the newer API group."""
    return frozenset(item.kind for item in manifests if group_of(item.api_version) == GROUP)


def is_superseded(manifest: Manifest, newer: frozenset[str]) -> bool:
    """Whether an object is left out since there are objects of the newer group of its kind."""
    return (
        isinstance(manifest, InferenceObjectiveManifest | InferenceModelRewriteManifest)
        and manifest.kind in newer
        and group_of(manifest.api_version) != GROUP
    )


def _newest_group(found: Iterable[Found], warnings: list[str]) -> list[Found]:
    newer = newer_kinds(item.what for item in found if isinstance(item.what, Manifest))
    kept: list[Found] = []
    for item in found:
        what = item.what
        if isinstance(what, Manifest) and is_superseded(what, newer):
            warnings.append(
                f"{item.place}: {what.kind} of {what.api_version} is left out, "
                f"since there are objects of {GROUP}"
            )
        else:
            kept.append(item)
    return kept


def _pools(found: list[Found], warnings: list[str]) -> dict[str, InferencePool]:
    pools: dict[str, InferencePool] = {}
    for item in found:
        what = item.what
        if isinstance(what, InferencePoolManifest):
            ports = tuple(port.number for port in what.spec.target_ports)
            if len(set(ports)) < len(ports):
                raise ManifestError(item.place, "spec.targetPorts", "a port stands twice")
            ref = what.spec.endpoint_picker_ref
            pool = _pool(item.place, what.metadata, what.spec.selector.match_labels, ports)
            pools[pool.name] = replace(
                pool,
                app_protocol=what.spec.app_protocol,
                failure_mode=ref.failure_mode if ref else "FailClose",
            )
    for item in found:
        what = item.what
        if isinstance(what, AlphaInferencePoolManifest):
            port, alpha_ref = what.spec.target_port_number, what.spec.extension_ref
            pool = _pool(item.place, what.metadata, what.spec.selector, (port,))
            if pool.name in pools:
                warnings.append(f"{item.place}: InferencePool of v1 stands for {pool.name!r}")
                continue
            mode = alpha_ref.failure_mode if alpha_ref else "FailClose"
            pools[pool.name] = replace(pool, failure_mode=mode)
    return pools


def _pool(
    place: str, metadata: Metadata, selector: Mapping[str, str], ports: tuple[int, ...]
) -> InferencePool:
    served = frozenset(split_list(metadata.annotations.get(SERVED_MODELS, "")))
    adapters = frozenset(split_list(metadata.annotations.get(LORA_ADAPTERS, "")))
    block = metadata.annotations.get(PREFIX_BLOCK_TOKENS, "64")
    if not block.isdecimal() or not 1 <= int(block) <= 65536:
        raise ManifestError(
            place, f"metadata.annotations[{PREFIX_BLOCK_TOKENS}]", f"{block!r} is not 1 to 65536"
        )
    return InferencePool(
        name=f"{metadata.namespace}/{metadata.name}",
        selector=dict(selector),
        target_ports=ports,
        served_models=served | adapters if served else served,
        lora_adapters=adapters,
        prefix_block_tokens=int(block),
    )


def _picker_configs(
    found: list[Found], pools: Mapping[str, InferencePool], warnings: list[str]
) -> dict[str, str]:
    """The YAML for each pool; a document that names the pool is preferred to one for all."""
    named: dict[str, tuple[str, str]] = {}
    for_all: tuple[str, str] | None = None
    for item in found:
        if not isinstance(item.what, PickerConfig):
            continue
        names = split_list(item.what.metadata.annotations.get(POOL, ""))
        key = f"metadata.annotations[{POOL}]"
        if not names:
            if for_all is not None:
                raise ManifestError(item.place, key, f"{for_all[0]} is for all pools already")
            for_all = (item.place, item.what.text)
        for name in names:
            pool = name if "/" in name else f"{item.what.metadata.namespace}/{name}"
            if pool not in pools:
                warnings.append(f"{item.place}: {key} names pool {pool!r}, which is not there")
            elif pool in named:
                raise ManifestError(item.place, key, f"{named[pool][0]} is for {pool} already")
            else:
                named[pool] = (item.place, item.what.text)
    texts = dict.fromkeys(pools, for_all[1]) if for_all else {}
    return texts | {pool: text for pool, (_, text) in named.items()}


def _hash(config: InferencePool) -> str:
    message = encode_pool_config(config)
    return hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()[:16]
