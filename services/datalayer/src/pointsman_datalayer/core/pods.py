"""From a pod to an entry of the endpoint list, as file discovery reads them."""

from typing import Any

import msgspec

from pointsman_datalayer.core.listed_endpoints import ACTIVE_PORTS
from pointsman_datalayer.core.manifest_kinds import ListedEndpoint, split_list
from pointsman_datalayer.core.manifests import ManifestError


class _Condition(msgspec.Struct, frozen=True):
    type: str = ""
    status: str = ""


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    pod_ip: str = msgspec.field(name="podIP", default="")
    phase: str = ""
    conditions: tuple[_Condition, ...] | None = ()


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata
    status: _Status = _Status()


def endpoint_of_pod(place: str, document: dict[str, Any]) -> ListedEndpoint | None:
    """The entry of a pod that is ready, has an address and is not terminating; else `None`.

    Raises:
        ManifestError: its active-ports annotation names no ports.
    """
    try:
        pod = msgspec.convert(document, _Pod)
    except msgspec.ValidationError as error:
        raise ManifestError(place, "", f"is no pod: {error}") from error
    meta, status = pod.metadata, pod.status
    ready = any(item.type == "Ready" and item.status == "True" for item in status.conditions or ())
    if not ready or not status.pod_ip or meta.deletion_timestamp is not None:
        return None
    labels, annotations = meta.labels or {}, meta.annotations or {}
    kept = {key: annotations[key] for key in ACTIVE_PORTS if key in annotations}
    for key, value in [*kept.items(), *((key, labels.get(key, "")) for key in ACTIVE_PORTS)]:
        for part in split_list(value):
            if not part.isdecimal() or not 1 <= int(part) <= 65535:
                raise ManifestError(place, f"metadata.annotations[{key}]", f"{part!r} is no port")
    return ListedEndpoint(
        name=meta.name,
        namespace=meta.namespace,
        address=status.pod_ip,
        labels=labels,
        annotations=kept,
        uid=meta.uid,
    )
