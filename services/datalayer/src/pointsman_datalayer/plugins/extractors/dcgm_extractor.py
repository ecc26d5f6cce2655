"""`dcgm-extractor`: how busy an endpoint's GPUs are, from NVIDIA's DCGM exporter.

`GPUUtilization`, 0 to 1: the busiest GPU of those that the exporter ascribes to the endpoint's pod,
or of all where it names no pods (source: llm-d-router's extractor of that name).
"""

import math
from collections.abc import Mapping

from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.core.prometheus_text import ExpositionReader

ATTRIBUTE = "GPUUtilization"
METRIC = "DCGM_FI_DEV_GPU_UTIL"


class DcgmExtractor:
    def __init__(self) -> None:
        self._reader = ExpositionReader([METRIC])

    def extract(self, endpoint: DiscoveredEndpoint, body: bytes) -> Mapping[str, float]:
        samples = self._reader.read(body).samples.get(METRIC)
        if not samples:
            raise ValueError(f"lacks {METRIC}")
        pod = endpoint.name.rpartition("/")[2].rpartition("-rank-")[0]
        percents = [
            sample.value
            for sample in samples
            if sample.labels.get("pod", pod) == pod and math.isfinite(sample.value)
        ]
        return {ATTRIBUTE: min(max(percents) / 100.0, 1.0)} if percents else {}
