"""`models-data-extractor`: the models that an endpoint lists on `/v1/models`, adapters among them.

Each becomes an attribute `/v1/models/<id>` of 1, for endpoint-attribute plugins of the scheduler.
"""

from collections.abc import Mapping

import msgspec

from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint

PREFIX = "/v1/models/"


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_DECODER = msgspec.json.Decoder(_Models)


class ModelsDataExtractor:
    def extract(self, endpoint: DiscoveredEndpoint, body: bytes) -> Mapping[str, float]:
        del endpoint
        try:
            models = _DECODER.decode(body)
        except msgspec.DecodeError as error:
            raise ValueError(f"no list of models: {error}") from error
        return {f"{PREFIX}{model.id}": 1.0 for model in models.data}
