"""From an EndpointPickerConfig to a scheduler, completed as upstream completes it.

No profiles: one, `default`, with every filter, scorer and picker of the document. No profile
handler: `single-profile-handler`. A profile without a picker: the document's first, else
`max-score-picker`. Source: llm-d-router, config/loader.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from pointsman_common.endpoint_picker_config import (
    DEFAULT_CONFIG,
    EndpointPickerConfig,
    PluginSpec,
    ProfilePlugin,
    SchedulingProfileSpec,
    config_hash,
    parse_endpoint_picker_config,
)
from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType, build_plugin
from pointsman_scheduler.core.foreign_types import (
    DETECTORS,
    NOT_AVAILABLE,
    OTHER_LAYERS,
    PREFIX_PRODUCER,
)
from pointsman_scheduler.core.plugin_protocols import (
    Filter,
    LatencyModel,
    LatencyPredictor,
    Picker,
    PickObserver,
    Plugin,
    ProfileHandler,
    Referring,
    Remembering,
    ResponseEditor,
    Scorer,
)
from pointsman_scheduler.core.scheduler import Scheduler
from pointsman_scheduler.core.scheduling_profile import Placed, SchedulingProfile

Catalogue = Mapping[str, PluginType[Plugin]]

COST_CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: predicted-latency-cost-scorer
- type: max-score-picker
  parameters:
    maxNumOfEndpoints: 3
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: predicted-latency-cost-scorer
  - pluginRef: max-score-picker
"""
"""What is done where nothing is configured."""

DEFAULT_POLICIES = {"cost": COST_CONFIG, "upstream": DEFAULT_CONFIG}

DEFAULT_PICKER = "max-score-picker"
DEFAULT_HANDLER = "single-profile-handler"


class PrefixLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Parameters of `approx-prefix-cache-producer`. The block size is the router's, so
    `blockSizeTokens` has no effect."""

    auto_tune: bool = True
    """Size each endpoint's share of the index from the KV cache that it reports."""
    block_size_tokens: int = 16
    max_prefix_tokens_to_match: int = 131_072
    """0: no limit."""
    max_prefix_blocks_to_match: int = 2048
    """0: no limit. The stricter of the two holds."""
    lru_capacity_per_server: int = 31_250
    """Blocks, where the size of an endpoint's cache is not known or not to be used."""


@dataclass(frozen=True)
class SchedulingConfig:
    """A configuration ready to use."""

    scheduler: Scheduler
    prefix: PrefixLimits
    hash: str
    text: str
    latency: LatencyModel | None = None
    """Of the plugin that predicts seconds; `None`: there is none."""


def compile_config(text: str, catalogue: Catalogue) -> SchedulingConfig:
    """Read and complete a configuration, and build its plugins.

    Raises:
        SettingsError: anything that is unknown, contradictory or out of range, naming it.
    """
    document = parse_endpoint_picker_config(text)
    plugins = _build_plugins(document, catalogue)
    profiles = {
        spec.name: _build_profile(spec, plugins, catalogue)
        for spec in document.scheduling_profiles or (_default_profile(plugins),)
    }
    for entry in plugins.values():
        if isinstance(entry.plugin, Referring):
            try:
                entry.plugin.bind({name: other.plugin for name, other in plugins.items()})
            except ValueError as error:
                raise SettingsError(f"plugins[{entry.name}].parameters", str(error)) from error
    handler = _find_handler(plugins, catalogue)
    try:
        handler.plugin.check(tuple(profiles))
    except ValueError as error:
        raise SettingsError(f"plugins[{handler.name}]", str(error)) from error
    built = [entry.plugin for entry in plugins.values()]
    return SchedulingConfig(
        scheduler=Scheduler(
            profiles,
            handler,
            observers=[plugin for plugin in built if isinstance(plugin, PickObserver)],
            editors=[plugin for plugin in built if isinstance(plugin, ResponseEditor)],
            remembering={
                name: entry.plugin
                for name, entry in plugins.items()
                if isinstance(entry.plugin, Remembering)
            },
        ),
        prefix=_prefix_limits(document),
        hash=config_hash(text),
        text=text,
        latency=next((one.model for one in built if isinstance(one, LatencyPredictor)), None),
    )


def _build_plugins(
    document: EndpointPickerConfig, catalogue: Catalogue
) -> dict[str, Placed[Plugin]]:
    named = {
        entry.plugin_ref for profile in document.scheduling_profiles for entry in profile.plugins
    }
    built: dict[str, Placed[Plugin]] = {}
    for spec in document.plugins:
        if spec.type in DETECTORS and spec.name not in named:
            continue
        if spec.type in catalogue:
            built[spec.name] = _build(spec, catalogue)
        elif spec.type in NOT_AVAILABLE:
            raise SettingsError(
                f"plugins[{spec.name}].type",
                f"{spec.type!r} is a scheduling plugin of llm-d-router that Pointsman does not "
                "have; see docs/plugins.md",
            )
        elif spec.type not in OTHER_LAYERS:
            known = ", ".join(sorted(catalogue))
            raise SettingsError(
                f"plugins[{spec.name}].type", f"no plugin {spec.type!r}; there are: {known}"
            )
    return built


def _build(spec: PluginSpec, catalogue: Catalogue) -> Placed[Plugin]:
    plugin = build_plugin(catalogue, spec.type, spec.name, spec.parameters)
    return Placed(plugin, spec.name, spec.type)


def _default_profile(plugins: Mapping[str, Placed[Plugin]]) -> SchedulingProfileSpec:
    usable = [
        name
        for name, entry in plugins.items()
        if isinstance(entry.plugin, Filter | Scorer | Picker)
    ]
    return SchedulingProfileSpec("default", tuple(ProfilePlugin(name) for name in usable))


def _build_profile(
    spec: SchedulingProfileSpec,
    plugins: Mapping[str, Placed[Plugin]],
    catalogue: Catalogue,
) -> SchedulingProfile:
    where = f"schedulingProfiles[{spec.name}]"
    filters: list[Placed[Filter]] = []
    scorers: list[Placed[Scorer]] = []
    pickers: list[Placed[Picker]] = []
    for reference in spec.plugins:
        entry = plugins.get(reference.plugin_ref)
        if entry is None or not isinstance(entry.plugin, Filter | Scorer | Picker):
            raise SettingsError(
                where, f"{reference.plugin_ref!r} is neither a filter, a scorer nor a picker"
            )
        weight = _weight(where, reference)
        plugin, name, kind = entry.plugin, entry.name, entry.type
        if isinstance(plugin, Filter):
            filters.append(Placed(plugin, name, kind))
        if isinstance(plugin, Scorer):
            scorers.append(Placed(plugin, name, kind, weight))
        if isinstance(plugin, Picker):
            pickers.append(Placed(plugin, name, kind))
    if len(pickers) > 1:
        names = ", ".join(entry.name for entry in pickers)
        raise SettingsError(where, f"has more than one picker: {names}")
    picker = pickers[0] if pickers else _default_picker(plugins, catalogue)
    return SchedulingProfile(spec.name, filters, scorers, picker)


def _weight(where: str, reference: ProfilePlugin) -> float:
    weight = 1.0 if reference.weight is None else reference.weight
    if not math.isfinite(weight) or weight < 0:
        raise SettingsError(where, f"weight of {reference.plugin_ref!r} is {weight}")
    return weight


def _default_picker(plugins: Mapping[str, Placed[Plugin]], catalogue: Catalogue) -> Placed[Picker]:
    built = _build(PluginSpec(DEFAULT_PICKER, DEFAULT_PICKER), catalogue)
    for entry in (*plugins.values(), built):  # in the document's order
        if isinstance(entry.plugin, Picker):
            return Placed(entry.plugin, entry.name, entry.type)
    raise SettingsError(DEFAULT_PICKER, "is no picker")


def _find_handler(
    plugins: Mapping[str, Placed[Plugin]], catalogue: Catalogue
) -> Placed[ProfileHandler]:
    handlers = _handlers(plugins.values())
    if len(handlers) > 1:
        names = ", ".join(entry.name for entry in handlers)
        raise SettingsError("plugins", f"more than one profile handler: {names}")
    if not handlers:
        handlers = _handlers([_build(PluginSpec(DEFAULT_HANDLER, DEFAULT_HANDLER), catalogue)])
    return handlers[0]


def _handlers(entries: Iterable[Placed[Plugin]]) -> list[Placed[ProfileHandler]]:
    return [
        Placed(entry.plugin, entry.name, entry.type)
        for entry in entries
        if isinstance(entry.plugin, ProfileHandler)
    ]


def _prefix_limits(document: EndpointPickerConfig) -> PrefixLimits:
    for spec in document.plugins:
        if spec.type == PREFIX_PRODUCER:
            try:
                limits = msgspec.convert(spec.parameters or {}, PrefixLimits)
            except msgspec.ValidationError as error:
                raise SettingsError(f"plugins[{spec.name}].parameters", str(error)) from error
            if min(limits.max_prefix_tokens_to_match, limits.max_prefix_blocks_to_match) < 0:
                raise SettingsError(f"plugins[{spec.name}].parameters", "a limit is negative")
            if limits.lru_capacity_per_server <= 0:
                raise SettingsError(
                    f"plugins[{spec.name}].parameters.lruCapacityPerServer", "must be above 0"
                )
            return limits
    return PrefixLimits()
