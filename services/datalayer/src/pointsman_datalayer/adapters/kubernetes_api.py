"""Speaks to an API server: lists, watches, reads and patches. The only door to `kubernetes`."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
from kubernetes.aio import client, config
from kubernetes.aio.config import ConfigException

from pointsman_common.errors import SettingsError

REQUEST_S = 10.0
"""Longest wait for an answer that is no stream."""
CONNECT_S = 5.0
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PAGE = 500

Json = dict[str, Any]


class ApiAwayError(Exception):
    """The API server could not be reached, did not answer in time, or broke off."""


class ApiStatusError(Exception):
    """The API server answered with an error; `status` is HTTP's."""

    def __init__(self, status: int, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"HTTP {status}: {why}" if why else f"HTTP {status}")
        self.status, self.retry_after_s = status, retry_after_s


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    next_page: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    items: list[Json] | None = None


class WatchEvent(msgspec.Struct, frozen=True):
    type: str
    object: Json


_read_page = msgspec.json.Decoder(_Page).decode
_read_event = msgspec.json.Decoder(WatchEvent).decode


@dataclass(slots=True)
class KubernetesApi:
    """A part of a service, which closes its connections at the end."""

    _client: Any
    own_namespace: str
    """Where this program runs, or what the kubeconfig's context names."""

    @classmethod
    async def connect(cls, kubeconfig: str) -> Self:
        """Connect by a kubeconfig file; "": as the pod that this is, else as KUBECONFIG says.

        Raises:
            SettingsError: there is no configuration, or it cannot be used.
        """
        settings = client.Configuration()
        try:
            namespace = await _configure(settings, kubeconfig)
            # Every watch holds a connection; their number is bounded by the pools.
            settings.connection_pool_maxsize = 0
            return cls(client.ApiClient(settings), namespace)
        except (ConfigException, OSError, ValueError) as error:
            raise SettingsError("kubeconfig", str(error)) from error

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self._client.close()

    async def list(self, path: str, selector: str) -> tuple[list[Json], str]:
        """All objects of a collection, and the version to watch from.

        Raises:
            ApiAwayError: there was no answer.
            ApiStatusError: there was a bad one.
        """
        items: list[Json] = []
        query = [("limit", str(PAGE)), *_selecting(selector)]
        token = ""
        while True:
            more = [("continue", token)] if token else []
            body = await self._ask("GET", path, [*query, *more])
            try:
                page = _read_page(body)
            except msgspec.DecodeError as error:
                raise ApiAwayError(f"no list: {error}") from error
            items += page.items or []
            token = page.metadata.next_page
            if not token:
                return items, page.metadata.resource_version

    @asynccontextmanager
    async def watch(
        self, path: str, selector: str, resource_version: str, *, timeout_s: float
    ) -> AsyncGenerator[AsyncGenerator[WatchEvent]]:
        """The changes since a version, until the server or `timeout_s` ends the stream.

        Raises:
            ApiAwayError: the stream broke off, or was silent for longer than it may last.
            ApiStatusError: it was refused, or ended with an error such as 410 Gone.
        """
        query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", resource_version),
            ("timeoutSeconds", str(max(1, round(timeout_s)))),
            *_selecting(selector),
        ]
        async with AsyncExitStack() as stack:
            with _telling_away():
                timeout = aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_S, sock_read=timeout_s + CONNECT_S
                )
                response = await self._request("GET", path, query, timeout=timeout)
            # A stream that is left half read cannot be used again.
            stack.callback(response.close)
            if response.status != 200:
                raise _refusal(response, await _body(response))
            yield _events(response)

    async def get(self, path: str) -> Json | None:
        """One object; `None`: it is not there."""
        try:
            return _object(await self._ask("GET", path))
        except ApiStatusError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, path: str, body: Json) -> None:
        await self._ask("POST", path, body=body)

    async def patch(self, path: str, body: Json) -> None:
        """Merge a patch; with `metadata.resourceVersion` it is refused (409) after any change."""
        await self._ask("PATCH", path, body=body, content_type="application/merge-patch+json")

    async def _ask(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        headers = {"Content-Type": content_type}
        with _telling_away():
            async with asyncio.timeout(REQUEST_S):
                response = await self._request(method, path, query, body=body, headers=headers)
                answer = await _body(response)
        if response.status >= 300:
            raise _refusal(response, answer)
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        *,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        serialized = await self._client.param_serialize(
            method=method,
            resource_path=path,
            query_params=list(query),
            header_params={"Accept": "application/json", **(headers or {})},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(*serialized, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        return response


async def _configure(settings: Any, kubeconfig: str) -> str:
    """Fill the client's settings in, and return the namespace that is our own."""
    load: Any = config  # without annotations
    if not kubeconfig:
        try:
            load.load_incluster_config(client_configuration=settings)
        except ConfigException:
            pass
        else:
            return await asyncio.to_thread(_mounted_namespace)
    file = kubeconfig or None
    await load.load_kube_config(config_file=file, client_configuration=settings)
    _, active = load.list_kube_config_contexts(config_file=file)
    return str(active["context"].get("namespace") or "default")


def _mounted_namespace() -> str:
    return NAMESPACE_FILE.read_text().strip()


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[WatchEvent]:
    while True:
        with _telling_away():
            line = await response.content.readline()
        if not line:
            return
        if not line.strip():
            continue
        try:
            event = _read_event(line)
        except msgspec.DecodeError as error:
            raise ApiAwayError(f"no event: {error}") from error
        if event.type == "ERROR":
            status = event.object.get("code")
            code = status if isinstance(status, int) else 500
            raise ApiStatusError(code, str(event.object.get("message", "")))
        yield event


async def _body(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.read()
    finally:
        response.release()


def _object(body: bytes) -> Json:
    try:
        return msgspec.json.decode(body, type=Json)
    except msgspec.DecodeError as error:
        raise ApiAwayError(f"no object: {error}") from error


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> ApiStatusError:
    try:
        why = str(msgspec.json.decode(body, type=Json).get("message", ""))
    except msgspec.DecodeError:
        why = body[:200].decode(errors="replace")
    wait = response.headers.get("Retry-After", "")
    return ApiStatusError(response.status, why, float(wait) if wait.isdecimal() else None)


def _selecting(selector: str) -> list[tuple[str, str]]:
    return [("labelSelector", selector)] if selector else []


@contextmanager
def _telling_away() -> Generator[None]:
    """Turns what the HTTP client raises into ApiAwayError."""
    try:
        yield
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, ConfigException) as error:
        raise ApiAwayError(str(error) or type(error).__name__) from error
