"""What is read, and what is refused with its file, document and key."""

import pytest

from pointsman_datalayer.core.manifests import ManifestError, read_manifests

POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec:
  selector: {matchLabels: {app: llama}}
  targetPorts: [{number: 8000}]
"""


def test_a_file_may_hold_several_documents() -> None:
    text = (
        POOL + "---\n---\nendpoints:\n- {name: a, address: 10.0.0.1}\n- {name: b, address: '::1'}\n"
    )
    found = read_manifests([("all.yaml", text)]).found
    assert [item.place for item in found] == ["all.yaml[0]", "all.yaml[2]", "all.yaml[2]"]
    assert [item.order for item in found] == [0, 1, 2]


def test_what_an_api_server_adds_is_accepted() -> None:
    added = POOL.replace(
        "{name: llama}",
        "{name: llama, uid: 1-2, generation: 3, creationTimestamp: 2026-01-02T03:04:05Z}",
    )
    assert read_manifests([("a", added + "status: {parents: []}\n")]).found


def test_a_list_of_objects_is_read_item_by_item() -> None:
    item = "\n".join("  " + line for line in POOL.splitlines()).replace("  apiV", "- apiV", 1)
    found = read_manifests([("a", f"apiVersion: v1\nkind: List\nitems:\n{item}\n")]).found
    assert [item.place for item in found] == ["a[0].items[0]"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            POOL.replace("number: 8000", "number: 0"),
            r"a\[0\]: spec.targetPorts\[0\].number: .*>= 1",
        ),
        (POOL.replace("targetPorts", "targetPort"), r"a\[0\]: spec.targetPort: no such field"),
        (POOL.replace("{app: llama}", "{}"), r"a\[0\]: spec.selector.matchLabels: "),
        (POOL.replace("/v1", "/v9"), r"a\[0\]: apiVersion: .*is not inference"),
        (POOL.replace("InferencePool", "InferencePol"), r"a\[0\]: kind: 'InferencePol' is none of"),
        ("kind: Nope\n", r"a\[0\]: apiVersion: is missing"),
        (
            "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nmetadata: [1]",
            r"a\[0\]: metadata: must be a mapping",
        ),
        ("{}", r"a\[0\]: apiVersion: is missing"),
        (POOL + "---\n- 1\n", r"a\[1\]: must be a mapping"),
        (POOL + "---\nspec: [\n", r"a\[1\]: is not YAML"),
        (POOL + "kind: InferencePool\n", r"a\[0\]: is not YAML: .*'kind' stands twice"),
        (
            POOL.replace("{name: llama}", "{name: l, annotations: {pointsman.dev/served: a}}"),
            r"a\[0\]: metadata.annotations\[pointsman.dev/served\]: no such annotation",
        ),
        ("endpoints: [{name: a}]", r"a\[0\]: endpoints\[0\]: .*address"),
        ("endpoints: [{name: a, address: b, port: 70000}]", r"a\[0\]: endpoints\[0\].port: "),
        (
            "endpoints: [{name: a, address: b, metricsUrl: 'file:///etc/passwd'}]",
            r"a\[0\]: endpoints\[0\].metricsUrl: ",
        ),
        ("apiVersion: v1\nkind: List\nitems: [1]", r"a\[0\].items\[0\]: must be a mapping"),
        (
            "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugin: []",
            r"a\[0\]: EndpointPickerConfig: .*plugin",
        ),
    ],
)
def test_a_refusal_names_file_document_and_key(broken: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_manifests([("a", broken)])


def test_objects_of_other_groups_are_left_out_with_a_warning() -> None:
    manifests = read_manifests([("a", "apiVersion: apps/v1\nkind: Deployment\n")])
    assert not manifests.found
    assert manifests.warnings == ("a[0]: apps/v1 Deployment is not for the datalayer; left out",)
