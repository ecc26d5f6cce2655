"""Settings from their defaults, a YAML file and the environment; later wins.

Only this module and identity.py (for POD_NAME) read the environment. `<PREFIX>CONFIG` names the
file. A key of a nested struct is spelled with two underscores: `EXT_PROC_LAYERS__ROUTER_URL`.
"""

import difflib
import os
import re
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
import yaml

from pointsman_common.errors import SettingsError
from pointsman_common.strict_yaml import load_yaml

S = TypeVar("S", bound=msgspec.Struct)

PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
PositiveInt = Annotated[int, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]

_SECRET = re.compile(r"(password|secret|token|private_key|api_key|authorization)$", re.IGNORECASE)
_URL_USER = re.compile(r"://([^/\s]*)@")

# Kubernetes tells every container of the services of its namespace: for one named `router` that is
# ROUTER_SERVICE_HOST, ROUTER_SERVICE_PORT[_NAME], ROUTER_PORT and ROUTER_PORT_9101_TCP[_ADDR …].
_SERVICE_LINK = re.compile(
    r"(^|_)(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)$"
)
_SERVICE_LINK_URL = re.compile(r"(tcp|udp|sctp)://")


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
        key = name.removeprefix(prefix)
        if name.startswith(prefix) and key != "CONFIG" and not _is_service_link(key, text):
            _set(kind, values, key.lower().split("__"), text, name)
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _explained(error, kind) from error


def shown_settings(settings: msgspec.Struct) -> dict[str, Any]:
    """Settings as plain data with their secrets masked."""
    plain: dict[str, Any] = msgspec.to_builtins(settings)
    return {key: _masked_entry(key, value) for key, value in plain.items()}


def masked_url(text: str) -> str:
    """A URL, or a comma list of them, without passwords and tokens."""
    return _URL_USER.sub(_without_password, text)


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        loaded = load_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(path, f"cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(path, f"is not YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SettingsError(path, "must be a mapping of settings")
    return {str(key): value for key, value in loaded.items()}


def _is_service_link(key: str, text: str) -> bool:
    if _SERVICE_LINK.search(key):
        return True
    return key.endswith("PORT") and _SERVICE_LINK_URL.match(text) is not None


def _set(
    kind: type[msgspec.Struct], values: dict[str, Any], keys: list[str], text: str, name: str
) -> None:
    for depth, key in enumerate(keys):
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        if key not in fields:
            raise SettingsError(name, _no_such_setting(key, fields))
        inner = _plain_type(fields[key].type)
        if depth == len(keys) - 1:
            values[key] = _parsed(fields[key].type, text, name)
        elif isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            nested = values.get(key)
            if not isinstance(nested, dict):
                nested = values[key] = {}
            values, kind = nested, inner
        else:
            raise SettingsError(name, f"{key} has no settings of its own")


def _parsed(kind: Any, text: str, name: str) -> Any:
    """Lists and mappings are written as YAML (`[a, b]`) or, for lists, with commas."""
    if text.lower() in ("", "null", "none") and type(None) in get_args(kind):
        return None
    kind = _plain_type(kind)
    origin = get_origin(kind) or kind
    if origin in (list, tuple, set, frozenset) and not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    if origin in (list, tuple, set, frozenset, dict) or (
        isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ):
        try:
            return load_yaml(text)
        except yaml.YAMLError as error:
            raise SettingsError(name, f"is not YAML: {error}") from error
    return text


def _plain_type(kind: Any) -> Any:
    """The type without its `Annotated` and without `| None`."""
    if get_origin(kind) is Annotated:
        return _plain_type(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        others = [item for item in get_args(kind) if item is not type(None)]
        return _plain_type(others[0]) if len(others) == 1 else kind
    return kind


def _explained(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> SettingsError:
    """msgspec's message is `why - at `$.key``; the key comes first for people."""
    text = str(error)
    why, _, where = text.partition(" - at `$")
    key = where.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(.+)`", why)
    if unknown:
        prefix = f"{key}." if key else ""
        return SettingsError(f"{prefix}{unknown[1]}", _no_such_setting(unknown[1], _at(kind, key)))
    return SettingsError(key or "settings", why[:1].lower() + why[1:])


def _at(kind: Any, key: str) -> Iterable[str]:
    """Names of the settings at a path such as `layers.router` or `rules[...].match`."""
    for step in re.findall(r"[^.\[\]]+|\[\.\.\.\]|\[\d+\]", key):
        kind = _plain_type(kind)
        if step.startswith("[") or step == "...":
            inner = [item for item in get_args(kind) if item is not Ellipsis]
            kind = inner[-1] if inner else None
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            found = [field.type for field in msgspec.structs.fields(kind) if field.name == step]
            kind = found[0] if found else None
    kind = _plain_type(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [field.name for field in msgspec.structs.fields(kind)]
    return ()


def _no_such_setting(key: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no such setting{hint or ';'} there are: {', '.join(names)}"


def _masked_entry(key: str, value: Any) -> Any:
    return "***" if value and _SECRET.search(key) else _masked(value)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked_entry(str(key), value[key]) for key in value}
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    if isinstance(value, str):
        return masked_url(value)
    return value


def _without_password(user: re.Match[str]) -> str:
    # `user:password@`, or `token@` as NATS has it: what stands before a colon is no secret.
    name, colon, _ = user[1].partition(":")
    return f"://{name}:***@" if colon else "://***@"
