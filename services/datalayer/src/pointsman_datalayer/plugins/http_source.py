"""What the sources that ask an endpoint over HTTP have in common."""

from typing import Annotated, Literal

import msgspec

from pointsman_common.endpoint import ip_of
from pointsman_datalayer.core.fetching import Fetcher, TlsFiles
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class HttpParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """As llm-d-router's HTTP sources take them."""

    scheme: Literal["http", "https"] = "http"
    path: str = ""
    """Empty: the source's own."""
    port: Port = 0
    """0: the endpoint's own."""
    insecure_skip_verify: bool | None = None
    """Trust any certificate. Not said: yes, unless `caCertPath` is given: pods have addresses that
    no certificate names."""
    ca_cert_path: str = ""
    client_cert_path: str = ""
    client_key_path: str = ""

    def tls(self) -> TlsFiles | None:
        if self.scheme == "http":
            return None
        skip = not self.ca_cert_path
        if self.insecure_skip_verify is not None:
            skip = self.insecure_skip_verify
        return TlsFiles(not skip, self.ca_cert_path, self.client_cert_path, self.client_key_path)


class HttpSource:
    """Asks `scheme://address/path` of each endpoint."""

    def __init__(self, parameters: HttpParameters, path: str, *, default_port: int = 0) -> None:
        self._scheme = parameters.scheme
        self._path = _absolute(parameters.path or path)
        self._port = parameters.port or default_port
        self.tls = parameters.tls()

    def url(self, endpoint: DiscoveredEndpoint) -> str:
        return f"{self._scheme}://{self._address(endpoint)}{self._path}"

    async def read(self, endpoint: DiscoveredEndpoint, http: Fetcher) -> bytes:
        return await http.fetch(self.url(endpoint), self.tls)

    def _address(self, endpoint: DiscoveredEndpoint) -> str:
        if not self._port:
            return endpoint.address
        ip = ip_of(endpoint.address)
        return f"[{ip}]:{self._port}" if ":" in ip else f"{ip}:{self._port}"


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
