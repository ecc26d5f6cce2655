"""`metrics-data-source`: the metrics page of each endpoint's engine."""

from collections.abc import Callable

from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.plugins.http_source import HttpParameters, HttpSource


class MetricsDataSource(HttpSource):
    """A path that is configured here counts for every engine; `path_of` knows the engines' own."""

    def __init__(
        self, parameters: HttpParameters, path: str, path_of: Callable[[DiscoveredEndpoint], str]
    ) -> None:
        super().__init__(parameters, path)
        self._path_of = (lambda _: "") if parameters.path else path_of

    def url(self, endpoint: DiscoveredEndpoint) -> str:
        if endpoint.metrics_url:
            return endpoint.metrics_url
        path = self._path_of(endpoint) or self._path
        return f"{self._scheme}://{self._address(endpoint)}{path}"
