"""Every source and extractor by its type in a configuration."""

from collections.abc import Mapping

from pointsman_common.plugin_catalogue import NoParameters, PluginType
from pointsman_datalayer.core.data_source import DataSource, Extractor
from pointsman_datalayer.plugins.extractors.core_metrics_extractor import (
    CoreMetricsExtractor,
    Parameters,
)
from pointsman_datalayer.plugins.extractors.dcgm_extractor import DcgmExtractor
from pointsman_datalayer.plugins.extractors.models_data_extractor import ModelsDataExtractor
from pointsman_datalayer.plugins.http_source import HttpParameters, HttpSource

CORE_METRICS = "core-metrics-extractor"
METRICS = "metrics-data-source"
"""Is built where the engines' own paths are known; see data_layer.py."""

SOURCES: Mapping[str, PluginType[DataSource]] = {
    METRICS: PluginType(HttpParameters, lambda _, given: HttpSource(given, "/metrics")),
    "models-data-source": PluginType(
        HttpParameters, lambda _, given: HttpSource(given, "/v1/models")
    ),
    "dcgm-data-source": PluginType(
        HttpParameters,
        lambda _, given: HttpSource(given, "/metrics", default_port=9400),
    ),
}

EXTRACTORS: Mapping[str, PluginType[Extractor]] = {
    CORE_METRICS: PluginType(Parameters, lambda _, given: CoreMetricsExtractor(given)),
    "models-data-extractor": PluginType(NoParameters, lambda _, __: ModelsDataExtractor()),
    "dcgm-extractor": PluginType(NoParameters, lambda _, __: DcgmExtractor()),
}
