"""Settings from their defaults, a YAML file and the environment; later wins.

Only this module and identity.py (for POD_NAME) read the environment. `<PREFIX>CONFIG` names the
file. A key of a nested struct is spelled with two underscores: `EXT_PROC_LAYERS__ROUTER_URL`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import yaml

from pointsman_common.errors import SettingsError

S = TypeVar("S", bound=msgspec.Struct)

PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]

_SECRET = re.compile(r"(password|secret|token|private_key)$")
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")


def load_settings(
    kind: type[S],
    *,
    prefix: str,
    path: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> S:
    """Build the settings of a service.

    Raises:
        SettingsError: an unknown key or a value out of range, naming the key.
    """
    environment = os.environ if environment is None else environment
    path = path or environment.get(f"{prefix}CONFIG")
    values = _read_yaml(path) if path else {}
    for name, text in environment.items():
        if name.startswith(prefix) and name != f"{prefix}CONFIG":
            _set(kind, values, name.removeprefix(prefix).lower().split("__"), text, name)
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _explained(error, kind) from error


def shown_settings(settings: msgspec.Struct) -> dict[str, Any]:
    """Settings as plain data with their secrets masked."""
    plain: dict[str, Any] = msgspec.to_builtins(settings)
    return {key: _masked_entry(key, value) for key, value in plain.items()}


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise SettingsError(path, f"cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(path, f"is not YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SettingsError(path, "must be a mapping of settings")
    return {str(key): value for key, value in loaded.items()}


def _set(
    kind: type[msgspec.Struct], values: dict[str, Any], keys: list[str], text: str, name: str
) -> None:
    for depth, key in enumerate(keys):
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        if key not in fields:
            near = ", ".join(sorted(fields))
            raise SettingsError(name, f"no such setting; there are: {near}")
        inner = fields[key].type
        if depth == len(keys) - 1:
            values[key] = _parsed(inner, text)
        elif isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            nested = values.setdefault(key, {})
            values, kind = nested, inner
        else:
            raise SettingsError(name, f"{key} has no settings of its own")


def _parsed(kind: Any, text: str) -> Any:
    """Lists and mappings are written as YAML (`[a, b]`) or, for lists, with commas."""
    origin = getattr(kind, "__origin__", None)
    if origin in (list, tuple) and not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    if origin in (list, tuple, dict) or (
        isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ):
        return yaml.safe_load(text)
    if text.lower() in ("", "null", "none") and "None" in str(kind):
        return None
    return text


def _explained(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> SettingsError:
    """msgspec's message is `why - at `$.key``; the key comes first for people."""
    text = str(error)
    why, _, where = text.partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(\w+)`", why)
    if unknown:
        near = ", ".join(sorted(field.name for field in msgspec.structs.fields(kind)))
        prefix = f"{key}." if key else ""
        return SettingsError(f"{prefix}{unknown[1]}", f"no such setting; there are: {near}")
    return SettingsError(key or "settings", why[:1].lower() + why[1:])


def _masked_entry(key: str, value: Any) -> Any:
    return "***" if value and _SECRET.search(key) else _masked(value)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked_entry(str(key), value[key]) for key in value}
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    if isinstance(value, str):
        return _URL_PASSWORD.sub(r"\1***@", value)
    return value
