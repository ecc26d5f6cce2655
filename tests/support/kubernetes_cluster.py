"""A namespace of a cluster, changed over HTTP as kubectl would: KUBECONFIG's, else an emulated one.

    async with cluster(folder) as there:
        await there.apply(a_kubernetes_pool())

What is broken on purpose can only be broken in the emulated one: see `server`.
"""

import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio import client, config

from support.kubernetes_server import FROM_THE_TEST, KubernetesServer, plural_of

Json = dict[str, Any]
CRDS = Path(__file__).parents[2] / "deploy/manifests/crds"


class Cluster:
    def __init__(
        self, api: Any, kubeconfig: Path, namespace: str, emulated: KubernetesServer | None
    ) -> None:
        self._api, self.kubeconfig, self.namespace = api, kubeconfig, namespace
        self._emulated = emulated

    @property
    def server(self) -> KubernetesServer:
        """The emulated server; a test that needs it is skipped on a real cluster."""
        if self._emulated is None:
            pytest.skip("a real cluster cannot be broken on purpose")
        return self._emulated

    async def apply(self, obj: Json) -> None:
        """Create an object of the namespace, or change it; its status as well."""
        path = self._path(obj)
        collection = path.rpartition("/")[0]
        if await self.request("POST", collection, obj) == 409:
            await self._must("PATCH", path, obj)
        if "status" in obj:
            await self._must("PATCH", f"{path}/status", {"status": obj["status"]})

    async def delete(self, obj: Json) -> None:
        await self._must("DELETE", self._path(obj) + "?gracePeriodSeconds=0", None)

    async def get(self, obj: Json) -> Json:
        found: Json = await self._ask("GET", self._path(obj), None, read=True)
        return found

    async def conditions(self, obj: Json) -> dict[str, tuple[str, str]]:
        """Status and reason by the type of each condition of an object."""
        status = (await self.get(obj)).get("status", {})
        entries = status.get("conditions") or []
        for parent in status.get("parents") or []:
            if parent["controllerName"] == "pointsman.dev/datalayer":
                entries = parent["conditions"]
        return {entry["type"]: (entry["status"], entry["reason"]) for entry in entries}

    async def request(self, method: str, path: str, body: Json | None) -> int:
        """The HTTP status of an answer; an error other than a conflict fails the test."""
        try:
            await self._ask(method, path, body)
        except client.ApiException as error:
            if error.status == 409:
                return 409
            raise
        return 200

    async def _must(self, method: str, path: str, body: Json | None) -> None:
        assert await self.request(method, path, body) == 200

    async def _ask(self, method: str, path: str, body: Json | None, *, read: bool = False) -> Any:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        serialized = await self._api.param_serialize(
            method=method,
            resource_path=path,
            query_params=[],
            header_params={
                "Content-Type": kind,
                "Accept": "application/json",
                FROM_THE_TEST: "yes",
            },
            body=body,
            auth_settings=["BearerToken"],
        )
        response = (await self._api.call_api(*serialized)).response
        if response.status >= 300:
            raise client.ApiException(status=response.status, reason=await response.text())
        return await response.json() if read else await response.read()

    def _path(self, obj: Json) -> str:
        api = obj["apiVersion"]
        root = "apis" if "/" in api else "api"
        name = obj["metadata"]["name"]
        return f"/{root}/{api}/namespaces/{self.namespace}/{plural_of(obj['kind'])}/{name}"


@asynccontextmanager
async def cluster(folder: Path) -> AsyncGenerator[Cluster]:
    """A fresh namespace; `folder` takes a kubeconfig that has it as its own."""
    given = os.environ.get("KUBECONFIG")
    if not given:
        async with (
            KubernetesServer() as server,
            _namespace(server.kubeconfig(), folder, server) as there,
        ):
            yield there
    else:
        async with _namespace(Path(given).read_text(), folder, None) as there:
            for file in sorted(CRDS.glob("*.yaml")):
                crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
                await there.request("POST", crds, yaml.safe_load(file.read_text()))
            yield there


@asynccontextmanager
async def _namespace(
    kubeconfig: str, folder: Path, emulated: KubernetesServer | None
) -> AsyncGenerator[Cluster]:
    namespace = f"pointsman-{secrets.token_hex(4)}"
    document = yaml.safe_load(kubeconfig)
    for context in document["contexts"]:
        context["context"]["namespace"] = namespace
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    settings: Any = client.Configuration()
    load: Any = config  # without annotations
    await load.load_kube_config(config_file=str(file), client_configuration=settings)
    async with client.ApiClient(settings) as api:
        there = Cluster(api, file, namespace, emulated)
        if emulated is not None:  # which takes any namespace
            yield there
            return
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await there.request("POST", "/api/v1/namespaces", body)
        try:
            yield there
        finally:
            await there.request("DELETE", f"/api/v1/namespaces/{namespace}", None)


def a_kubernetes_object(api_version: str, kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def a_kubernetes_pool(name: str = "llama", *ports: int, app: str = "llama") -> Json:
    spec = {
        "selector": {"matchLabels": {"app": app}},
        "targetPorts": [{"number": port} for port in ports or (8000,)],
        "endpointPickerRef": {"name": "pointsman", "port": {"number": 9002}},
    }
    return a_kubernetes_object("inference.networking.k8s.io/v1", "InferencePool", name, spec)


def a_kubernetes_pod(
    name: str,
    ip: str,
    *,
    ready: bool = True,
    app: str = "llama",
    annotations: dict[str, str] | None = None,
) -> Json:
    """No scheduler looks at it, and its status is as it is set."""
    spec = {"schedulerName": "nobody", "containers": [{"name": "engine", "image": "none"}]}
    pod = a_kubernetes_object("v1", "Pod", name, spec)
    pod["metadata"] |= {"labels": {"app": app}, "annotations": annotations or {}}
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    addresses = {"podIP": ip, "podIPs": [{"ip": ip}]}
    return pod | {"status": {"phase": "Running", "conditions": [condition], **addresses}}


def a_kubernetes_rewrite(name: str, *rules: Json, group: str = "llm-d.ai") -> Json:
    spec = {"poolRef": {"name": "llama"}, "rules": list(rules)}
    return a_kubernetes_object(f"{group}/v1alpha2", "InferenceModelRewrite", name, spec)


def a_kubernetes_objective(name: str, priority: int, *, group: str = "llm-d.ai") -> Json:
    spec = {"poolRef": {"name": "llama"}, "priority": priority}
    return a_kubernetes_object(f"{group}/v1alpha2", "InferenceObjective", name, spec)
