"""Gets the endpoints' pages: plain HTTP over connections of our own, HTTPS through aiohttp.

A GET through aiohttp costs several times what reading a page of metrics does. Each endpoint has one
scrape at a time, which bounds the connections; those that are kept are closed after `KEPT_S`.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from functools import lru_cache
from urllib.parse import urlsplit

import aiohttp

from pointsman_common.errors import SettingsError
from pointsman_datalayer.adapters.page_connection import (
    READ_BYTES,
    LostBeforeAnswerError,
    PageConnection,
)
from pointsman_datalayer.core.fetching import NonsenseError, TlsFiles, UnreachableError

KEPT_S = 30.0
SWEEP_S = 5.0
MAX_CONTEXTS = 16

Origin = tuple[str, int]


@lru_cache(maxsize=4096)
def _question(url: str) -> tuple[Origin, bytes] | None:
    """Where to connect and what to send; `None` for https.

    Raises:
        ValueError: no URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("no http address")
    if parts.scheme == "https":
        return None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = (
        f"GET {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
        # Compression would save nothing within a cluster and cost both ends their time.
        "Accept: text/plain, application/json\r\nAccept-Encoding: identity\r\n\r\n"
    )
    if any(character <= " " or character == "\x7f" for character in target + parts.netloc):
        raise ValueError("a control character")
    return (parts.hostname, parts.port or 80), head.encode()


class HttpFetcher:
    """Over kept-alive connections; an answer over `max_bytes` is not read to its end."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        tls: Iterable[TlsFiles],
        *,
        timeout_s: float,
        max_bytes: int,
    ) -> None:
        self._session = session
        self._contexts = {files: _context(files) for files in tls}
        self._timeout_s, self._max_bytes = timeout_s, max_bytes
        self._scratch = memoryview(bytearray(READ_BYTES))
        self._kept: dict[Origin, list[tuple[float, PageConnection]]] = {}
        self._swept_at = float("-inf")

    async def fetch(self, url: str, tls: TlsFiles | None = None) -> bytes:
        try:
            question = _question(url)
            async with asyncio.timeout(self._timeout_s):
                if question is None:
                    return await self._get_by_aiohttp(url, tls)
                return await self._get(*question)
        except TimeoutError as error:
            raise UnreachableError(f"no answer within {self._timeout_s:g} s") from error
        except ssl.SSLError as error:
            raise UnreachableError(f"TLS: {error.reason or error}") from error
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else ""
            raise UnreachableError(why or "connection failed") from error
        except ValueError as error:
            raise UnreachableError("not an address") from error

    def close(self) -> None:
        """Close what is kept."""
        for kept in self._kept.values():
            for _, connection in kept:
                connection.close()
        self._kept.clear()

    async def _get(self, origin: Origin, request: bytes) -> bytes:
        while True:
            connection = self._take(origin) or await self._connect(origin)
            try:
                body = await connection.get(request)
            except LostBeforeAnswerError:
                continue  # each try uses up a kept one: it ends with a new one
            if connection.usable:
                self._keep(origin, connection)
            return body

    def _take(self, origin: Origin) -> PageConnection | None:
        kept = self._kept.get(origin)
        while kept:
            _, connection = kept.pop()
            if connection.usable:
                return connection
        return None

    def _keep(self, origin: Origin, connection: PageConnection) -> None:
        now = asyncio.get_running_loop().time()
        self._kept.setdefault(origin, []).append((now, connection))
        if now - self._swept_at < SWEEP_S:
            return
        self._swept_at = now
        for known, kept in list(self._kept.items()):
            for _, old in (entry for entry in kept if now - entry[0] > KEPT_S):
                old.close()
            self._kept[known] = [entry for entry in kept if now - entry[0] <= KEPT_S]
            if not self._kept[known]:
                del self._kept[known]

    async def _connect(self, origin: Origin) -> PageConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: PageConnection(self._scratch, self._max_bytes), *origin
        )
        return connection

    async def _get_by_aiohttp(self, url: str, tls: TlsFiles | None) -> bytes:
        files = tls or TlsFiles()
        context = self._contexts.get(files)
        if context is None:  # of a source that did not say beforehand
            if len(self._contexts) >= MAX_CONTEXTS:
                self._contexts.clear()
            try:
                context = self._contexts[files] = _context(files)
            except SettingsError as error:
                raise UnreachableError(str(error)) from error
        try:
            async with self._session.get(url, ssl=context, allow_redirects=False) as response:
                if response.status != 200:
                    raise NonsenseError(f"HTTP {response.status}")
                chunks: list[bytes] = []
                size = 0
                async for chunk in response.content.iter_any():
                    size += len(chunk)
                    if size > self._max_bytes:
                        raise NonsenseError(f"more than {self._max_bytes} bytes")
                    chunks.append(chunk)
                return b"".join(chunks)
        except aiohttp.ClientConnectorCertificateError as error:
            raise UnreachableError("TLS: its certificate is not trusted") from error
        except aiohttp.ClientConnectorError as error:
            raise error.os_error from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise UnreachableError("connection lost") from error
        except aiohttp.ClientError as error:
            raise NonsenseError(f"no HTTP answer: {type(error).__name__}") from error


@asynccontextmanager
async def open_http_fetcher(
    timeout_s: float, max_bytes: int, tls: Iterable[TlsFiles] = ()
) -> AsyncGenerator[HttpFetcher]:
    """`tls`: the ways of trust that are known to be asked for; their files are looked at now.

    Raises:
        SettingsError: a file of certificates or keys that cannot be used.
    """
    # No limit for a host: one endpoint of a host that hangs must not hold up the others.
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=KEPT_S)
    headers = {"Accept": "text/plain, application/json", "Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # one deadline, in `fetch`
    ) as session:
        fetcher = HttpFetcher(session, tls, timeout_s=timeout_s, max_bytes=max_bytes)
        try:
            yield fetcher
        finally:
            fetcher.close()


def _context(files: TlsFiles) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.ca or None)
        if files.certificate:
            context.load_cert_chain(files.certificate, files.key or None)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(filter(None, (files.ca, files.certificate, files.key)))
        raise SettingsError("data_sources", f"{named}: {error}") from error
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
