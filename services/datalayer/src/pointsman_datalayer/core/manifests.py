"""From the text of manifest files to typed manifests, each with the place it came from.

Says whether each document is well formed by itself; how they belong together is for
pool_assembly.py. A watch on an API server yields the same `Found` values.
"""

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import yaml

from pointsman_common.endpoint_picker_config import API_VERSIONS, parse_endpoint_picker_config
from pointsman_common.errors import SettingsError
from pointsman_datalayer.core.manifest_kinds import (
    GROUP,
    KINDS,
    OLD_GROUP,
    OUR_GROUP,
    POOL_GROUP,
    EndpointList,
    ListedEndpoint,
    Manifest,
    Metadata,
    group_of,
)

_Shape = TypeVar("_Shape", bound=msgspec.Struct)

UNKNOWN_FIELD = "no such field"
MAX_UNKNOWN_FIELDS = 50

OUR_ANNOTATIONS = frozenset(
    f"pointsman.dev/{name}"
    for name in ("pool", "served-models", "lora-adapters", "prefix-block-tokens")
)


class ManifestError(SettingsError):
    """A manifest that cannot be taken over; names its file, document and key."""

    reason = "manifest"

    def __init__(self, place: str, key: str, why: str) -> None:
        super().__init__(f"{place}: {key}" if key else place, why)
        self.place = place


@dataclass(frozen=True, slots=True)
class PickerConfig:
    """An EndpointPickerConfig that parses."""

    metadata: Metadata
    text: str
    """The document as YAML, for the layers that use it."""


@dataclass(frozen=True, slots=True)
class Found:
    """One document, or one entry of an endpoint list, with its place for error messages."""

    place: str
    order: int
    """Place among all that was read: settles ties."""
    what: Manifest | PickerConfig | ListedEndpoint


@dataclass(frozen=True, slots=True)
class Manifests:
    found: tuple[Found, ...] = ()
    warnings: tuple[str, ...] = ()


def read_manifests(files: Iterable[tuple[str, str]]) -> Manifests:
    """Read the documents of files given as (name, text), in the order given.

    Raises:
        ManifestError: the first document that is not well formed.
    """
    found: list[Found] = []
    warnings: list[str] = []
    for name, text in files:
        for index, document in enumerate(_documents(name, text)):
            place = f"{name}[{index}]"
            if document is None:  # nothing between two separators
                continue
            for where, what in _read(place, document, warnings):
                found.append(Found(where, len(found), what))
    return Manifests(tuple(found), tuple(warnings))


def _read(
    place: str, document: Any, warnings: list[str]
) -> Iterable[tuple[str, Manifest | PickerConfig | ListedEndpoint]]:
    if not isinstance(document, dict):
        raise ManifestError(place, "", "must be a mapping")
    if "kind" not in document and "endpoints" in document:
        return [(place, entry) for entry in _converted(place, document, EndpointList).endpoints]
    version, kind = str(document.get("apiVersion", "")), str(document.get("kind", ""))
    if kind == "EndpointPickerConfig":
        return [(place, _picker_config(place, version, document))]
    if kind == "List" and isinstance(items := document.get("items"), list):
        return [
            read
            for number, item in enumerate(items)
            for read in _read(f"{place}.items[{number}]", item, warnings)
        ]
    shape = KINDS.get((version, kind))
    if shape is not None:
        manifest = _converted(place, document, shape)
        _check_annotations(place, manifest.metadata)
        return [(place, manifest)]
    known = sorted(api for api, name in KINDS if name == kind)
    if known:
        raise ManifestError(
            place, "apiVersion", f"{version!r} of {kind} is not {' or '.join(known)}"
        )
    if not version:
        raise ManifestError(place, "apiVersion", "is missing")
    if not kind or group_of(version) in (GROUP, OLD_GROUP, POOL_GROUP, OUR_GROUP):
        kinds = ", ".join(sorted({name for _, name in KINDS} | {"EndpointPickerConfig"}))
        raise ManifestError(
            place, "kind", f"{kind!r} is none of {kinds}, and there is no endpoint list"
        )
    warnings.append(f"{place}: {version} {kind} is not for the datalayer; left out")
    return []


def _picker_config(place: str, version: str, document: dict[str, Any]) -> PickerConfig:
    raw: Any = document.get("metadata") or {}
    if not isinstance(raw, dict):
        raise ManifestError(place, "metadata", "must be a mapping")
    metadata = _converted(place, {"metadata": {"name": "default", **raw}}, _OnlyMetadata).metadata
    _check_annotations(place, metadata)
    text = yaml.safe_dump(document, sort_keys=False)
    try:
        parse_endpoint_picker_config(text)
    except SettingsError as error:
        if version not in API_VERSIONS:
            raise ManifestError(
                place, "apiVersion", f"{version!r} is not {' or '.join(API_VERSIONS)}"
            ) from error
        raise ManifestError(place, error.key, error.why) from error
    return PickerConfig(metadata, text)


def read_object(place: str, document: dict[str, Any]) -> tuple[Manifest, tuple[str, ...]]:
    """Read an object that an API server has accepted, and name the fields that we do not know.

    They are left out rather than refused: a CRD may be newer than this program.

    Raises:
        ManifestError: it is not well formed, or of no kind that is read.
    """
    version, kind = str(document.get("apiVersion", "")), str(document.get("kind", ""))
    shape = KINDS.get((version, kind))
    if shape is None:
        raise ManifestError(place, "kind", f"{version} {kind} is none that is read")
    unknown: list[str] = []
    for _ in range(MAX_UNKNOWN_FIELDS):
        try:
            return _converted(place, document, shape), tuple(unknown)
        except ManifestError as error:
            path = error.key.removeprefix(place).removeprefix(": ")
            if error.why != UNKNOWN_FIELD:
                raise
            document = _without(document, re.findall(r"\[[^\]]*\]|[^.\[\]]+", path))
            unknown.append(path)
    raise ManifestError(place, "", f"has more than {MAX_UNKNOWN_FIELDS} unknown fields")


def _without(value: Any, path: list[str]) -> Any:
    """A copy without the field at a path; where an index stands, it is taken from every element."""
    step, *rest = path
    if step.startswith("["):
        return [_without(item, rest) for item in value] if isinstance(value, list) else value
    if not isinstance(value, dict) or step not in value:
        return value
    if not rest:
        return {key: item for key, item in value.items() if key != step}
    return value | {step: _without(value[step], rest)}


class _OnlyMetadata(msgspec.Struct, frozen=True):
    metadata: Metadata


def _check_annotations(place: str, metadata: Metadata) -> None:
    for key in metadata.annotations:
        if key.startswith("pointsman.dev/") and key not in OUR_ANNOTATIONS:
            known = ", ".join(sorted(OUR_ANNOTATIONS))
            raise ManifestError(
                place, f"metadata.annotations[{key}]", f"no such annotation; there are: {known}"
            )


def _converted(place: str, document: Any, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        why, _, where = str(error).partition(" - at `$")
        key = where.rstrip("`").lstrip(".")
        unknown = re.search(r"unknown field `(.+)`", why)
        if unknown:
            key, why = f"{key}.{unknown[1]}".lstrip("."), UNKNOWN_FIELD
        raise ManifestError(place, key, why[:1].lower() + why[1:]) from error


def _documents(name: str, text: str) -> list[Any]:
    documents: list[Any] = []
    try:
        documents.extend(yaml.load_all(text, Loader=_UniqueKeyLoader))
    except (yaml.YAMLError, RecursionError) as error:
        place = f"{name}[{len(documents)}]"
        raise ManifestError(place, "", f"is not YAML: {' '.join(str(error).split())}") from error
    return documents


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else id(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
