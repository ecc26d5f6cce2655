"""Keeps Envoy's endpoint file as the registry knows the endpoints."""

from pathlib import Path

from pointsman_common.clock import Clock
from pointsman_common.structured_log import get_logger
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry
from pointsman_datalayer.core.envoy_endpoints import endpoint_file
from pointsman_datalayer.metrics import Metrics

log = get_logger("envoy-endpoint-file")

POLL_S = 0.05


class EnvoyEndpointFile:
    """A part of a service. Replaces the file by renaming: Envoy never reads half of one."""

    def __init__(
        self, path: str, cluster: str, clock: Clock, registry: EndpointRegistry, metrics: Metrics
    ) -> None:
        self._path, self._cluster = Path(path), cluster
        self._clock, self._registry, self._metrics = clock, registry, metrics
        self._changed = True
        self._written = ""
        registry.on_membership_change(self._on_membership_change)

    async def run(self) -> None:
        while True:
            if self._changed:
                self._changed = not self._write()
            await self._clock.sleep(POLL_S if not self._changed else 1.0)

    def _on_membership_change(self) -> None:
        self._changed = True

    def _write(self) -> bool:
        addresses = [
            item.address for item in self._registry.addresses().values() if not item.problem
        ]
        text = endpoint_file(addresses, self._cluster)
        if text == self._written:
            return True
        # In the same directory: a rename is atomic only within one file system.
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            temporary.write_text(text)
            temporary.replace(self._path)
        except OSError as error:
            self._metrics.envoy_file_errors.inc()
            log.warning("envoy-file-not-written", path=str(self._path), error=error.strerror)
            return False
        self._written = text
        log.info("envoy-file-written", path=str(self._path), endpoints=len(addresses))
        return True
