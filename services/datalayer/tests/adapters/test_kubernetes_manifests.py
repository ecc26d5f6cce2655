"""The CRDs and rights that are shipped fit what the datalayer reads and asks for."""

from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # has no annotations
import msgspec
import pytest
import yaml
from support.kubernetes_cluster import (
    a_kubernetes_object,
    a_kubernetes_objective,
    a_kubernetes_pool,
    a_kubernetes_rewrite,
)

from pointsman_datalayer.core.manifest_kinds import KINDS, RoutePolicyManifest
from pointsman_datalayer.core.manifests import ManifestError, read_object

MANIFESTS = Path(__file__).parents[4] / "deploy/manifests"
Json = dict[str, Any]


def documents(pattern: str) -> list[Json]:
    return [
        document
        for file in sorted(MANIFESTS.glob(pattern))
        for document in yaml.safe_load_all(file.read_text())
        if document
    ]


def schemas() -> dict[tuple[str, str], Json]:
    """The schema of each kind by its apiVersion and name."""
    found: dict[tuple[str, str], Json] = {}
    for crd in documents("crds/*.yaml"):
        spec = crd["spec"]
        assert crd["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
        (version,) = spec["versions"]
        assert version["subresources"] == {"status": {}}
        key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
        found[key] = version["schema"]["openAPIV3Schema"]
    return found


def test_there_is_a_crd_for_every_kind_that_is_read() -> None:
    assert schemas().keys() == KINDS.keys()


@pytest.mark.parametrize(
    "key", [key for key, shape in KINDS.items() if shape is not RoutePolicyManifest], ids="-".join
)
def test_a_crd_has_the_fields_that_are_read_and_no_other(key: tuple[str, str]) -> None:
    spec = msgspec.inspect.type_info(KINDS[key])
    assert isinstance(spec, msgspec.inspect.StructType)
    (field,) = [field for field in spec.fields if field.name == "spec"]
    assert read_fields(field.type, "spec") == set(schema_fields(schemas()[key], "spec"))


def read_fields(kind: msgspec.inspect.Type, path: str) -> set[str]:
    if isinstance(kind, msgspec.inspect.Metadata):
        return read_fields(kind.type, path)
    if isinstance(kind, msgspec.inspect.UnionType):
        return set().union(*(read_fields(item, path) for item in kind.types))
    if isinstance(kind, msgspec.inspect.NoneType):
        return set()
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return read_fields(kind.item_type, path)
    if not isinstance(kind, msgspec.inspect.StructType):
        return {path}
    return {
        found
        for field in kind.fields
        for found in read_fields(field.type, f"{path}.{field.encode_name}")
    }


def schema_fields(schema: Json, root: str) -> list[str]:
    def leaves(part: Json, path: str) -> list[str]:
        if "items" in part:
            return leaves(part["items"], path)
        if "properties" not in part:
            return [path]
        return [
            leaf
            for name, inner in part["properties"].items()
            for leaf in leaves(inner, f"{path}.{name}")
        ]

    return leaves(schema["properties"][root], root)


GOOD = [
    a_kubernetes_pool("llama", 8000, 8001),
    a_kubernetes_objective("high", -1),
    a_kubernetes_rewrite("r", {"targets": [{"modelRewrite": "a", "weight": 1}]}),
    a_kubernetes_object(
        "pointsman.dev/v1alpha1",
        "RoutePolicy",
        "p",
        {"poolRef": {"name": "llama"}, "rules": [{"type": "anything"}], "more": 1},
    ),
    *(item for item in documents("sample/*.yaml") if "kind" in item),
]


@pytest.mark.parametrize("manifest", GOOD, ids=lambda item: item["metadata"]["name"])
def test_what_the_schema_allows_is_read(manifest: Json) -> None:
    schema = schemas()[manifest["apiVersion"], manifest["kind"]]
    jsonschema.validate(manifest, schema)
    read, unknown = read_object("here", manifest)
    assert (read.kind, unknown) == (manifest["kind"], ())


@pytest.mark.parametrize(
    ("manifest", "where"),
    [
        (a_kubernetes_pool("llama", 0), "targetPorts"),
        (a_kubernetes_pool("llama", *range(8000, 8009)), "targetPorts"),
        (a_kubernetes_rewrite("r"), "rules"),
        (a_kubernetes_rewrite("r", {"targets": []}), "targets"),
        (a_kubernetes_rewrite("r", {"targets": [{"modelRewrite": "a", "weight": 0}]}), "weight"),
    ],
)
def test_what_is_refused_here_the_schema_refuses_as_well(manifest: Json, where: str) -> None:
    schema = schemas()[manifest["apiVersion"], manifest["kind"]]
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate(manifest, schema)
    assert where in str(list(refused.value.absolute_path))
    with pytest.raises(ManifestError, match=where):
        read_object("here", manifest)
