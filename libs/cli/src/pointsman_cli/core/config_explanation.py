"""What an EndpointPickerConfig makes each layer do: in words, completed, and against another."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import yaml

from pointsman_common.endpoint_picker_config import (
    EndpointPickerConfig,
    PluginSpec,
    parse_endpoint_picker_config,
)
from pointsman_scheduler.core.config import Catalogue, SchedulingConfig, compile_config
from pointsman_scheduler.core.foreign_types import PREFIX_PRODUCER
from pointsman_scheduler.core.scheduling_profile import SchedulingProfile

OTHERS = "read by another layer"


class ConfigPart(msgspec.Struct, frozen=True, kw_only=True):
    where: str
    """`profile <name>`, `request`, or empty for what stands by itself."""
    role: str
    """filter, scorer, picker, profile handler, prefix index, or read by another layer."""
    name: str
    type: str
    weight: float | None = None
    does: str
    """The plugin's own first sentence."""


def explain_config(text: str, catalogue: Catalogue) -> list[ConfigPart]:
    """Every part, in the order in which it comes to bear.

    Raises:
        SettingsError: the configuration cannot be used; names the key and the reason.
    """
    document, compiled = parse_endpoint_picker_config(text), compile_config(text, catalogue)
    handler = compiled.scheduler.handler
    parts = [
        ConfigPart(
            where="request",
            role="profile handler",
            name=handler.name,
            type=handler.type,
            does=_says(handler.plugin),
        )
    ]
    for name, profile in compiled.scheduler.profiles.items():
        parts.extend(_profile_parts(name, profile))
    placed = {part.name for part in parts}
    parts.extend(_others(document, compiled, placed, catalogue))
    return parts


def complete_config(text: str, catalogue: Catalogue) -> dict[str, Any]:
    """The document with every default written out, as the scheduler reads it.

    Raises:
        SettingsError: it cannot be used.
    """
    document, compiled = parse_endpoint_picker_config(text), compile_config(text, catalogue)
    plugins = {spec.name: _complete_plugin(spec, catalogue) for spec in document.plugins}
    handler = compiled.scheduler.handler
    used: list[tuple[str, str]] = [(handler.name, handler.type)]
    profiles: list[dict[str, Any]] = []
    for name, profile in compiled.scheduler.profiles.items():
        entries: dict[str, dict[str, Any]] = {}
        for one in profile.filters:
            entries[one.name] = {"pluginRef": one.name}
        for scorer in profile.scorers:
            entries[scorer.name] = {"pluginRef": scorer.name, "weight": scorer.weight}
        picker = profile.picker
        entries.setdefault(picker.name, {"pluginRef": picker.name})
        used.append((picker.name, picker.type))
        profiles.append({"name": name, "plugins": list(entries.values())})
    for name, kind in used:
        if name not in plugins:
            plugins[name] = _complete_plugin(PluginSpec(kind, name), catalogue)
    completed: dict[str, Any] = msgspec.to_builtins(document)
    completed |= {"plugins": list(plugins.values()), "schedulingProfiles": profiles}
    return {key: value for key, value in completed.items() if value not in (None, [], {}, ())}


def as_yaml(completed: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(completed), sort_keys=False)


def config_differences(
    one: str, other: str, catalogue: Catalogue
) -> list[tuple[str, object, object]]:
    """Key, value here and value there, of all that differs once both are completed; `None`: not
    there.

    Raises:
        SettingsError: one of them cannot be used.
    """
    here = dict(_flat("", _keyed(complete_config(one, catalogue))))
    there = dict(_flat("", _keyed(complete_config(other, catalogue))))
    return [
        (key, here.get(key), there.get(key))
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]


def _profile_parts(name: str, profile: SchedulingProfile) -> Iterator[ConfigPart]:
    where = f"profile {name}"
    for one in profile.filters:
        yield ConfigPart(
            where=where, role="filter", name=one.name, type=one.type, does=_says(one.plugin)
        )
    for scorer in profile.scorers:
        yield ConfigPart(
            where=where,
            role="scorer",
            name=scorer.name,
            type=scorer.type,
            weight=scorer.weight,
            does=_says(scorer.plugin),
        )
    picker = profile.picker
    yield ConfigPart(
        where=where, role="picker", name=picker.name, type=picker.type, does=_says(picker.plugin)
    )


def _others(
    document: EndpointPickerConfig,
    compiled: SchedulingConfig,
    placed: set[str],
    catalogue: Catalogue,
) -> Iterator[ConfigPart]:
    for spec in document.plugins:
        if spec.name in placed:
            continue
        if spec.type == PREFIX_PRODUCER:
            limits = compiled.prefix
            does = (
                f"matches up to {limits.max_prefix_blocks_to_match or 'all'} blocks of a prompt; "
                f"{limits.lru_capacity_per_server} blocks an endpoint where its cache is not known"
            )
            yield ConfigPart(
                where="", role="prefix index", name=spec.name, type=spec.type, does=does
            )
        elif spec.type in catalogue:
            does = "is in no profile, and has no effect on where requests go"
            yield ConfigPart(where="", role="not used", name=spec.name, type=spec.type, does=does)
        else:
            does = "has no effect on where requests go"
            yield ConfigPart(where="", role=OTHERS, name=spec.name, type=spec.type, does=does)


def _complete_plugin(spec: PluginSpec, catalogue: Catalogue) -> dict[str, Any]:
    parameters: Any = spec.parameters or {}
    known = catalogue.get(spec.type)
    if known is not None:
        parameters = msgspec.to_builtins(msgspec.convert(parameters, known.parameters))
    completed: dict[str, Any] = {"type": spec.type, "name": spec.name}
    return completed | ({"parameters": parameters} if parameters else {})


def _keyed(completed: dict[str, Any]) -> dict[str, Any]:
    """Lists of named things as mappings, so that their order alone is no difference."""
    plugins = {one["name"]: one for one in completed.get("plugins", ())}
    profiles = {
        one["name"]: {entry["pluginRef"]: entry.get("weight", "used") for entry in one["plugins"]}
        for one in completed.get("schedulingProfiles", ())
    }
    return {**completed, "plugins": plugins, "schedulingProfiles": profiles}


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), below)
    else:
        yield prefix, value


def _says(plugin: object) -> str:
    """The first sentence of what a plugin says of itself."""
    text = " ".join((type(plugin).__doc__ or "").split())
    return text.partition(". ")[0].rstrip(".")
