"""Kubernetes' external metrics API, as an aggregated API server: for a HorizontalPodAutoscaler.

The pools' metrics of scaling_metrics.py, labelled `namespace` and `pool`, in the namespace of their
pool. See https://kubernetes.io/docs/reference/external-api/external-metrics.v1beta1/.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from pointsman_common.clock import Clock
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.pool_digest import PoolDigests
from pointsman_datalayer.core.scaling_metrics import (
    METRICS,
    SelectorError,
    labels_of,
    matches,
    parse_selector,
    quantity,
)

GROUP, VERSION = "external.metrics.k8s.io", "v1beta1"
GROUP_VERSION = f"{GROUP}/{VERSION}"
ROOT = f"/apis/{GROUP_VERSION}"

Json = dict[str, Any]

_VERSION: Json = {"groupVersion": GROUP_VERSION, "version": VERSION}
_GROUP: Json = {"name": GROUP, "versions": [_VERSION], "preferredVersion": _VERSION}


def build_external_metrics_api(
    clock: Clock, registry: EndpointRegistry, digests: PoolDigests
) -> FastAPI:
    """The application; an HttpPart serves it."""
    app = FastAPI(title="Pointsman external metrics", docs_url=None, redoc_url=None)

    async def healthy() -> Response:
        return Response("ok", media_type="text/plain")

    async def groups() -> Json:
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]}

    async def group() -> Json:
        return {"kind": "APIGroup", "apiVersion": "v1", **_GROUP}

    async def resources() -> Json:
        listed = [
            {
                "name": name,
                "singularName": "",
                "namespaced": True,
                "kind": "ExternalMetricValueList",
                "verbs": ["get"],
            }
            for name in METRICS
        ]
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": GROUP_VERSION,
            "resources": listed,
        }

    async def values(
        namespace: str,
        metric: str,
        label_selector: Annotated[str, Query(alias="labelSelector")] = "",
    ) -> Response:
        read = METRICS.get(metric)
        if read is None:
            return _status(404, "NotFound", f"there is no external metric {metric!r}")
        try:
            selector = parse_selector(label_selector)
        except SelectorError as error:
            return _status(400, "BadRequest", str(error))
        at = datetime.fromtimestamp(clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        items: list[Json] = []
        for pool in sorted(registry.pools()):
            labels, value = labels_of(pool), read(digests.regime(pool))
            # What is not known is left out, so that an autoscaler keeps what there is.
            if value is None or labels["namespace"] != namespace or not matches(selector, labels):
                continue
            items.append(
                {
                    "metricName": metric,
                    "metricLabels": labels,
                    "timestamp": at,
                    "value": quantity(value),
                }
            )
        listed = {
            "kind": "ExternalMetricValueList",
            "apiVersion": GROUP_VERSION,
            "metadata": {},
            "items": items,
        }
        return JSONResponse(listed)

    async def missing(request: Request, _: Exception) -> Response:
        return _status(404, "NotFound", f"the server has nothing at {request.url.path}")

    for path in ("/healthz", "/readyz", "/livez"):
        app.get(path)(healthy)
    app.get("/apis")(groups)
    app.get(f"/apis/{GROUP}")(group)
    app.get(ROOT)(resources)
    app.get(ROOT + "/namespaces/{namespace}/{metric}", response_model=None)(values)
    app.exception_handler(404)(missing)
    return app


def _status(code: int, reason: str, message: str) -> Response:
    """A refusal as Kubernetes' clients read it."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return JSONResponse(status, status_code=code)
