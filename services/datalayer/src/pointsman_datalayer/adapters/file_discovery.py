"""Discovery from files: reads the manifests, and reads them again when they change.

A change that cannot be taken over leaves the last good state in force, and says so in the log, a
metric and the REST API. Host names of endpoints are resolved again and again, so that a container
that comes back under another address is found.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pointsman_common.clock import Clock
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.core.manifest_intake import ManifestIntake
from pointsman_datalayer.core.manifest_kinds import ListedEndpoint
from pointsman_datalayer.core.manifests import ManifestError, Manifests, read_manifests
from pointsman_datalayer.core.pool_assembly import Discovery
from pointsman_datalayer.metrics import Metrics

log = get_logger("file-discovery")

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE_BYTES = 8 << 20
RESOLVE_AFTER_S = 5.0
RESOLVE_TIMEOUT_S = 2.0

Signature = tuple[tuple[str, int, int, int], ...]
Resolver = Callable[[str], Awaitable[str | None]]


@dataclass(slots=True)
class DiscoveryStatus:
    """What became of the last reading, for people."""

    accepted_at: float = 0.0
    """Seconds since 1970."""
    error: str = ""
    """Why what is on disk is not in force; empty: it is."""
    refused_at: float = 0.0
    warnings: tuple[str, ...] = ()


class FileDiscovery:
    """A part of a service. Call `load` before, so that bad manifests refuse the start.

    `optional`: a path that is not there is no error, since the pools come from elsewhere.
    """

    def __init__(
        self,
        path: str,
        clock: Clock,
        intake: ManifestIntake,
        metrics: Metrics,
        *,
        poll_s: float,
        resolve: Resolver | None = None,
        optional: bool = False,
    ) -> None:
        self._paths = [Path(part.strip()) for part in path.split(",") if part.strip()]
        self._clock, self._intake, self._metrics = clock, intake, metrics
        self._poll_s, self._optional = poll_s, optional
        self._resolve = resolve or resolve_host
        self._signature: Signature | None = None
        self._manifests = Manifests()
        self._addresses: dict[str, str | None] = {}
        self._resolved_at = float("-inf")
        self.status = DiscoveryStatus()

    async def load(self) -> None:
        """Read the manifests and take them over.

        Raises:
            ManifestError: they cannot be read or do not fit together; nothing has changed.
        """
        self._signature = signature_of(self._paths)
        paths = [path for path in self._paths if path.exists() or not self._optional]
        manifests = read_manifests(read_files(paths))
        addresses = await self._look_up(manifests)
        discovery = self._intake.take_files(manifests, addresses)
        self._manifests, self._addresses = manifests, addresses
        self._report(discovery)

    async def run(self) -> None:
        while True:
            await self._clock.sleep(self._poll_s)
            if signature_of(self._paths) != self._signature:
                await self._reload()
            elif self._clock.monotonic() - self._resolved_at >= RESOLVE_AFTER_S:
                await self._resolve_again()

    async def _reload(self) -> None:
        try:
            await self.load()
        except ManifestError as error:
            self.status.error, self.status.refused_at = str(error), self._clock.wall()
            self._metrics.config_reloads.labels("refused").inc()
            self._metrics.refused("files", 1)
            log.warning("manifests-refused", error=str(error))

    def _report(self, discovery: Discovery) -> None:
        self.status = DiscoveryStatus(self._clock.wall(), warnings=discovery.warnings)
        self._metrics.config_reloads.labels("accepted").inc()
        self._metrics.refused("files", 0)
        for warning in discovery.warnings:
            log.warning("manifest-left-out", why=warning)
        log.info(
            "manifests-in-force",
            pools=sorted(discovery.pools),
            endpoints=sum(len(pool.endpoints) for pool in discovery.pools.values()),
        )

    async def _resolve_again(self) -> None:
        addresses = await self._look_up(self._manifests)
        if addresses != self._addresses:
            self._addresses = addresses
            self._intake.take_files(self._manifests, addresses)
            log.info("endpoints-resolved-anew")

    async def _look_up(self, manifests: Manifests) -> dict[str, str | None]:
        hosts = sorted(
            {item.what.address for item in manifests.found if isinstance(item.what, ListedEndpoint)}
        )
        self._resolved_at = self._clock.monotonic()
        found = await asyncio.gather(*(self._resolve(host) for host in hosts))
        return dict(zip(hosts, found, strict=True))


async def resolve_host(host: str) -> str | None:
    """The IP of a host; an IP is its own. `None`: it has none, or nobody answered in time."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return None
    return min((str(entry[4][0]) for entry in found), default=None)


def signature_of(paths: Iterable[Path]) -> Signature:
    """Changes when any of the files does, also when a symbolic link is pointed elsewhere."""
    seen: list[tuple[str, int, int, int]] = []
    for file in _files(paths):
        try:
            stat = file.stat()
        except OSError:
            seen.append((str(file), 0, 0, 0))
        else:
            seen.append((str(file), stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(seen)


def read_files(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """Raises ManifestError when one cannot be read."""
    contents: list[tuple[str, str]] = []
    for file in _files(paths):
        try:
            if file.stat().st_size > MAX_FILE_BYTES:
                raise ManifestError(str(file), "", f"is larger than {MAX_FILE_BYTES} bytes")
            contents.append((str(file), file.read_text(encoding="utf-8")))
        except OSError as error:
            raise ManifestError(str(file), "", f"cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ManifestError(str(file), "", "is not UTF-8") from error
    return contents


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(
                file
                for file in path.iterdir()
                if file.suffix in SUFFIXES and not file.name.startswith(".") and not file.is_dir()
            )
        else:
            files.append(path)
    return files
