"""Every policy by its name on the command line."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pointsman_common.errors import SettingsError
from pointsman_replay.adapters.production_pickers import PickerOptions, ProductionPickers
from pointsman_replay.adapters.virtual_bus import BusTiming
from pointsman_replay.core import judgement
from pointsman_replay.core.policies.dynamo_like import DynamoLike
from pointsman_replay.core.policies.oracle import Oracle
from pointsman_replay.core.policies.policy import BuildPolicy
from pointsman_replay.core.policies.sglang_like import SglangLike
from pointsman_replay.core.policies.simple import LeastRequest, RandomEndpoint, RoundRobin
from pointsman_replay.core.trace import ReplayError
from pointsman_scheduler.core.config import DEFAULT_POLICIES, compile_config
from pointsman_scheduler.plugins.catalogue import PLUGINS

FOR_COMPARISON: Mapping[str, BuildPolicy] = {
    "round-robin": RoundRobin,
    "random": RandomEndpoint,
    "least-request": LeastRequest,
    "dynamo-like": DynamoLike,
    "sglang-like": SglangLike,
    "oracle": Oracle,
}

PRODUCTION: Mapping[str, str] = {
    "upstream": DEFAULT_POLICIES["upstream"],
    "pointsman": DEFAULT_POLICIES["cost"],
}
"""Configurations of the production scheduler."""

NAMES = (*FOR_COMPARISON, *PRODUCTION)
DEFAULTS = ("round-robin", "upstream", "pointsman", "oracle")


def judged_policies() -> dict[str, BuildPolicy]:
    """What a judgement compares; see judgement.py."""
    several = PickerOptions(judgement.PICKERS, BusTiming(judgement.BUS_DELAY_S))
    default, one = PRODUCTION["pointsman"], PickerOptions()
    return {
        judgement.UPSTREAM: _production("upstream", PRODUCTION["upstream"], one),
        judgement.ORACLE: Oracle,
        judgement.ONE: _production("pointsman", default, one),
        judgement.SEVERAL: _production("pointsman", default, several),
    }


def choose_policies(chosen: list[str], options: PickerOptions) -> dict[str, BuildPolicy]:
    """Return the policies by name, in the order asked for.

    Each is a name of the catalogue, or `name=path` of an EndpointPickerConfig for the production
    scheduler.

    Raises:
        ReplayError: there is none of that name, one is named twice, or a file cannot be used.
    """
    policies: dict[str, BuildPolicy] = {}
    for text in chosen:
        name, equals, path = text.partition("=")
        if name in policies:
            raise ReplayError(f"policy {name!r} is asked for twice")
        if equals:
            policies[name] = _production(name, _read_config(name, path), options)
        elif name in PRODUCTION:
            policies[name] = _production(name, PRODUCTION[name], options)
        elif name in FOR_COMPARISON:
            policies[name] = FOR_COMPARISON[name]
        else:
            known = ", ".join(NAMES)
            raise ReplayError(f"no policy {name!r}; there are: {known}, and name=config.yaml")
    return policies


def _production(name: str, config: str, options: PickerOptions) -> BuildPolicy:
    try:
        compile_config(config, PLUGINS)
    except SettingsError as error:
        raise ReplayError(f"policy {name}: {error}") from error
    build: Callable[..., ProductionPickers] = ProductionPickers
    return lambda surroundings: build(surroundings, config, options)


def _read_config(name: str, path: str) -> str:
    if not name or not path:
        raise ReplayError(f"policy {name + '=' + path!r} is not name=config.yaml")
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReplayError(f"policy {name}: {path} cannot be read: {error}") from error
