"""A Kubernetes API server over HTTP, as far as a controller meets one, and its bad days.

kmock parses the requests and answers the discovery of the API; here are versions, bookmarks, 410
Gone, paged lists, conflicts, label selectors and the status subresource, and what can be broken:
streams cut off, silent or in crumbs, errors, a kind that is not installed, a server that is away.
"""

import asyncio
import copy
import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import kmock
from aiohttp import web

from support.ports import free_port

Json = dict[str, Any]
Path = tuple[str, str]
"""apiVersion and plural."""

KINDS: dict[str, tuple[str, ...]] = {
    "v1": ("pods",),
    "coordination.k8s.io/v1": ("leases",),
    "inference.networking.k8s.io/v1": ("inferencepools",),
    "inference.networking.x-k8s.io/v1alpha2": (
        "inferencepools",
        "inferenceobjectives",
        "inferencemodelrewrites",
        "inferencemodels",
    ),
    "llm-d.ai/v1alpha2": ("inferenceobjectives", "inferencemodelrewrites"),
    "pointsman.dev/v1alpha1": ("routepolicies",),
}


FROM_THE_TEST = "X-From-The-Test"
"""Header of what the test itself asks."""

_VERBS = {
    kmock.action.LIST: "list",
    kmock.action.WATCH: "watch",
    kmock.action.FETCH: "get",
    kmock.action.CREATE: "create",
    kmock.action.UPDATE: "patch",
    kmock.action.DELETE: "delete",
}


class RefusedError(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclass
class Faults:
    """What does not work at the moment."""

    status: dict[str, int] = field(default_factory=dict)
    """Plural → the HTTP status of every request for it."""
    not_installed: set[Path] = field(default_factory=set)
    crumb_bytes: int = 0
    """Streams come in pieces of so many bytes; 0: whole."""
    silent: bool = False
    """Streams are accepted and say nothing."""
    page: int = 500
    """Most objects of a page, whatever was asked for."""
    bad_lines: bool = False
    """Streams bring lines that are no JSON."""


@dataclass
class _Stream:
    path: Path
    namespace: str | None
    selector: dict[str, str]
    transport: asyncio.Transport | None
    queue: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)


class KubernetesServer(kmock.KubernetesScaffold):
    """Start with `async with`."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.faults = Faults()
        self.version = 1000
        self.port = free_port()
        self.lists: list[str] = []
        self.watches: list[tuple[str, str]] = []
        """Plural and resourceVersion of each watch that began."""
        self.patches: list[tuple[str, Json]] = []
        self.asked: set[tuple[str, str, str]] = set()
        """Verb, API group and resource of every request, as RBAC knows them."""
        self._store: dict[tuple[Path, str, str], Json] = {}
        self._log: list[tuple[int, str, Path, Json, Json | None]] = []
        self._compacted = 0
        self._streams: list[_Stream] = []
        self._server: kmock.Server | None = None
        for version, plurals in KINDS.items():
            for plural in plurals:
                self.resources[f"{version}/{plural}"] = kmock.ResourceInfo()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
        await super().__aexit__(exc_type, exc_value, traceback)

    async def start(self) -> None:
        """Listen, always on the same port."""
        self._server = kmock.Server(self, port=self.port)
        await self._server.__aenter__()

    async def stop(self) -> None:
        """Be away; the objects stay, as in etcd."""
        if self._server is not None:
            self.cut_streams()
            server, self._server = self._server, None
            await server.__aexit__(None, None, None)

    def kubeconfig(self, namespace: str = "default") -> str:
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                "users": [{"name": "u", "user": {"token": "secret-token"}}],
                "contexts": [
                    {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}
                ],
                "current-context": "x",
            }
        )

    def _delete(self, obj: Json) -> None:
        path, meta = _path_of(obj), obj["metadata"]
        known = self._store.pop((path, meta["namespace"], meta["name"]))
        self._record(path, copy.deepcopy(known), "DELETED", known)

    # What goes wrong

    def cut_streams(self) -> None:
        """End every open watch in the middle."""
        for stream in self._streams:
            stream.queue.put_nowait(None)

    def compact(self) -> None:
        """Forget all history: a watch from an older version is 410 Gone."""
        self.version += 1
        self._compacted = self.version

    def compact_to(self, version: int) -> None:
        """Forget what was before a version."""
        self._compacted = version

    def bookmark(self) -> None:
        """Tell every watch that all up to a new version is known to it."""
        self.version += 1
        for stream in self._streams:
            meta = {"resourceVersion": str(self.version)}
            self._send(stream, "BOOKMARK", {"kind": "Bookmark", "metadata": meta})

    def expire_streams(self) -> None:
        """Tell every open watch 410, as the server does when it cannot follow."""
        self.compact()
        for stream in self._streams:
            self._send(stream, "ERROR", _status(410, "Expired: too old resource version"))

    # HTTP

    async def _handle(self, request: kmock.Request) -> web.StreamResponse:
        if request.resource is None or request.resource.plural is None:
            return await super()._handle(request)
        try:
            return await self._serve(request)
        except RefusedError as error:
            return web.json_response(_status(error.status, error.reason), status=error.status)

    async def _serve(self, request: kmock.Request) -> web.StreamResponse:
        resource = request.resource
        assert resource is not None and request.action is not None
        group, version = resource.group, resource.version
        api, plural = f"{group}/{version}" if group else str(version), str(resource.plural)
        path = (api, plural)
        verb = _VERBS.get(request.action, "other")
        named = f"{plural}/{request.subresource}" if request.subresource else plural
        if FROM_THE_TEST not in request.headers:
            self.asked.add((verb, str(group or ""), named))
        assert request.headers.get("Authorization") == "Bearer secret-token"
        if plural in self.faults.status:
            raise RefusedError(self.faults.status[plural], "as the test wants it")
        if path in self.faults.not_installed or plural not in KINDS.get(api, ()):
            raise RefusedError(404, "the server could not find the requested resource")
        match request.action:
            case kmock.action.LIST:
                return self._list(path, request)
            case kmock.action.WATCH:
                return await self._watch(path, request)
            case kmock.action.FETCH:
                return web.json_response(self._known(path, request))
            case kmock.action.CREATE:
                obj = {key: part for key, part in request.data.items() if key != "status"}
                obj["metadata"]["namespace"] = request.namespace or ""
                return web.json_response(self._create(path, obj), status=201)
            case kmock.action.DELETE:
                known = self._known(path, request)
                self._delete(known)
                return web.json_response(known)
            case kmock.action.UPDATE:
                return web.json_response(self._patch(path, request))
        raise RefusedError(405, "not allowed")

    def _list(self, path: Path, request: kmock.Request) -> web.Response:
        self.lists.append(path[1])
        token = request.params.get("continue", "")
        start, at = map(int, token.split("-")) if token else (0, self.version)
        if token and at < self._compacted:
            raise RefusedError(410, "The provided continue parameter is too old")
        found = [
            obj
            for key, obj in sorted(self._store.items())
            if key[0] == path and _matches(obj, request.namespace, _selector(request))
        ]
        size = min(int(request.params.get("limit", "500")), self.faults.page)
        more = f"{start + size}-{at}" if start + size < len(found) else ""
        meta = {"resourceVersion": str(at), "continue": more}
        return web.json_response({"metadata": meta, "items": found[start : start + size]})

    async def _watch(self, path: Path, request: kmock.Request) -> web.StreamResponse:
        since = int(request.params["resourceVersion"])
        self.watches.append((path[1], str(since)))
        response = web.StreamResponse()
        response.content_type = "application/json"
        assert request._raw_request is not None
        await response.prepare(request._raw_request)
        transport = request._raw_request.transport
        stream = _Stream(path, request.namespace, _selector(request), transport)
        self._streams.append(stream)
        try:
            if since < self._compacted:
                self._send(stream, "ERROR", _status(410, "Expired: too old resource version"))
            else:
                for version, kind, changed, obj, before in self._log:
                    if version > since and changed == path:
                        self._offer(stream, kind, obj, before)
            ends_in_s = float(request.params.get("timeoutSeconds", "300"))
            await asyncio.wait_for(self._pour(response, stream), ends_in_s)
        except (TimeoutError, ConnectionResetError):
            pass
        finally:
            self._streams.remove(stream)
        return response

    async def _pour(self, response: web.StreamResponse, stream: _Stream) -> None:
        while True:
            line = await stream.queue.get()
            if line is None:
                if stream.transport is not None:
                    stream.transport.abort()
                return
            if self.faults.silent:
                continue
            if self.faults.bad_lines:
                line = b"<html>\n"
            size = self.faults.crumb_bytes or len(line)
            for start in range(0, len(line), size):
                await response.write(line[start : start + size])
                await asyncio.sleep(0)

    def _known(self, path: Path, request: kmock.Request) -> Json:
        known = self._store.get((path, request.namespace or "", str(request.name)))
        if known is None:
            raise RefusedError(404, f"{path[1]} {request.name!r} not found")
        return known

    def _create(self, path: Path, obj: Json) -> Json:
        meta = obj["metadata"]
        namespace = meta.setdefault("namespace", "default")
        if (path, namespace, meta["name"]) in self._store:
            raise RefusedError(409, "AlreadyExists")
        meta.setdefault("uid", f"uid-{namespace}-{meta['name']}-{self.version}")
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        meta.setdefault("generation", 1)
        return self._write(path, obj, "ADDED", None)

    def _patch(self, path: Path, request: kmock.Request) -> Json:
        assert request.headers["Content-Type"] == "application/merge-patch+json"
        known, patch = self._known(path, request), request.data
        self.patches.append((f"{path[1]}/{request.name}", patch))
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, known["metadata"]["resourceVersion"]):
            raise RefusedError(409, "the object has been modified")
        if request.subresource == "status":
            merged = _merge(known, {"status": patch.get("status", {})})
        else:
            told = ("labels", "annotations", "deletionTimestamp")
            meta = {key: part for key, part in patch.get("metadata", {}).items() if key in told}
            merged = _merge(known, {"metadata": meta, "spec": patch.get("spec", {})})
        if merged == known:
            return known
        if merged.get("spec") != known.get("spec"):
            generation = known["metadata"]["generation"] + 1
            merged = _merge(merged, {"metadata": {"generation": generation}})
        return self._write(path, merged, "MODIFIED", known)

    def _write(self, path: Path, obj: Json, kind: str, before: Json | None) -> Json:
        new = copy.deepcopy(obj)
        meta = new["metadata"]
        self._record(path, new, kind, before)
        self._store[path, meta["namespace"], meta["name"]] = new
        return new

    def _record(self, path: Path, obj: Json, kind: str, before: Json | None) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        shown = copy.deepcopy(obj)
        self._log.append((self.version, kind, path, shown, before))
        for stream in self._streams:
            if stream.path == path:
                self._offer(stream, kind, shown, before)

    def _offer(self, stream: _Stream, kind: str, obj: Json, before: Json | None) -> None:
        """An object that comes to match is added, and one that no longer does is deleted."""
        here = kind != "DELETED" and _matches(obj, stream.namespace, stream.selector)
        there = before is not None and _matches(before, stream.namespace, stream.selector)
        if here or there:
            told = "MODIFIED" if here and there else "ADDED" if here else "DELETED"
            self._send(stream, told, obj)

    @staticmethod
    def _send(stream: _Stream, kind: str, obj: Json) -> None:
        stream.queue.put_nowait(json.dumps({"type": kind, "object": obj}).encode() + b"\n")


def plural_of(kind: str) -> str:
    return f"{kind.lower()}s".replace("policys", "policies")


def _path_of(obj: Json) -> Path:
    return obj["apiVersion"], plural_of(obj["kind"])


def _matches(obj: Json, namespace: str | None, selector: dict[str, str]) -> bool:
    meta = obj["metadata"]
    labels = meta.get("labels", {})
    return (not namespace or meta["namespace"] == namespace) and all(
        labels.get(key) == value for key, value in selector.items()
    )


def _selector(request: kmock.Request) -> dict[str, str]:
    text = request.params.get("labelSelector", "")
    return dict(part.split("=") for part in text.split(",") if part)


def _merge(value: Json, patch: Json) -> Json:
    merged = dict(value)
    for key, item in patch.items():
        if item is None:
            merged.pop(key, None)
        elif isinstance(item, dict):
            known = merged.get(key)
            merged[key] = _merge(known if isinstance(known, dict) else {}, item)
        else:
            merged[key] = item
    return merged


def _status(code: int, message: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}
