"""Which pods are endpoints."""

from typing import Any

import pytest

from pointsman_datalayer.core.manifests import ManifestError
from pointsman_datalayer.core.pods import endpoint_of_pod


def a_pod(*, ready: str = "True", ip: str = "10.0.0.1", **metadata: Any) -> dict[str, Any]:
    meta = {"name": "llama-0", "namespace": "ml", "uid": "u", "labels": {"app": "llama"}}
    conditions = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": ready}]
    return {"metadata": meta | metadata, "status": {"podIP": ip, "conditions": conditions}}


def test_a_ready_pod_is_an_endpoint_of_its_namespace_under_its_uid() -> None:
    entry = endpoint_of_pod("here", a_pod())
    assert entry is not None
    assert (entry.name, entry.namespace, entry.uid) == ("llama-0", "ml", "u")
    assert (entry.address, entry.port, entry.labels) == ("10.0.0.1", None, {"app": "llama"})


@pytest.mark.parametrize(
    "pod",
    [
        a_pod(ready="False"),
        a_pod(ready="Unknown"),
        a_pod(ip=""),
        a_pod(deletionTimestamp="2026-01-01T00:00:00Z"),
        {"metadata": {"name": "a", "namespace": "b"}},
        {"metadata": {"name": "a", "namespace": "b"}, "status": {"conditions": None}},
    ],
)
def test_a_pod_that_is_not_ready_has_no_address_or_is_terminating_is_none(
    pod: dict[str, Any],
) -> None:
    assert endpoint_of_pod("here", pod) is None


def test_only_annotations_that_restrict_the_ports_are_kept() -> None:
    annotations = {"llm-d.ai/active-ports": "8001", "pointsman.dev/pool": "x", "other": "y"}
    entry = endpoint_of_pod("here", a_pod(annotations=annotations))
    assert entry is not None
    assert entry.annotations == {"llm-d.ai/active-ports": "8001"}


def test_ports_that_are_none_are_refused_with_their_annotation() -> None:
    with pytest.raises(ManifestError, match=r"here: metadata.annotations\[llm-d.ai/active-ports"):
        endpoint_of_pod("here", a_pod(annotations={"llm-d.ai/active-ports": "8001,http"}))


def test_what_is_no_pod_is_refused() -> None:
    with pytest.raises(ManifestError, match="is no pod"):
        endpoint_of_pod("here", {"metadata": {"name": 7}})
