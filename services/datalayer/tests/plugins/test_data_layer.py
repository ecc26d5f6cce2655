"""From settings to sources and extractors, and what cannot be is refused by its key."""

from typing import Any

import msgspec
import pytest
from support.engine_pages import TRTLLM_SERVE, VLLM

from pointsman_common.errors import SettingsError
from pointsman_datalayer.core.fetching import Fetcher, TlsFiles
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.plugins.data_layer import DataLayer, SourceSettings, build_data_layer


def layer(*entries: dict[str, Any]) -> DataLayer:
    return build_data_layer(msgspec.convert(entries, tuple[SourceSettings, ...]), "/metrics")


def endpoint(**fields: Any) -> DiscoveredEndpoint:
    known = {"uid": "a", "name": "default/a-rank-0", "address": "10.0.0.1:8000", "labels": {}}
    return DiscoveredEndpoint(**{**known, "engine": "vllm", **fields})


class Asked(Fetcher):
    def __init__(self) -> None:
        self.urls: list[tuple[str, TlsFiles | None]] = []

    async def fetch(self, url: str, tls: TlsFiles | None = None) -> bytes:
        self.urls.append((url, tls))
        return b""


async def urls(built: DataLayer, *endpoints: DiscoveredEndpoint) -> list[str]:
    asked = Asked()
    for item in endpoints:
        await built.metrics.source.read(item, asked)
    return [url for url, _ in asked.urls]


def test_metrics_are_read_whether_they_are_named_or_not() -> None:
    for built in (
        layer(),
        layer({"type": "models-data-source"}),
        layer({"type": "metrics-data-source"}),
    ):
        assert built.metrics.type_name == "metrics-data-source"
        assert built.core.read(endpoint(), VLLM.encode(), 0.0).metrics.waiting_requests == 2


async def test_each_engine_is_asked_where_its_metrics_are() -> None:
    trt = endpoint(labels={"llm-d.ai/engine-type": "trtllm-serve"})
    elsewhere = endpoint(metrics_url="http://sidecar:9/m")
    assert await urls(layer(), endpoint(), trt, elsewhere) == [
        "http://10.0.0.1:8000/metrics",
        "http://10.0.0.1:8000/prometheus/metrics",
        "http://sidecar:9/m",
    ]
    given = {"scheme": "https", "path": "m", "port": 8002}
    six = endpoint(address="[::1]:8000")
    built = layer({"type": "metrics-data-source", "parameters": given})
    assert await urls(built, trt, six) == ["https://10.0.0.1:8002/m", "https://[::1]:8002/m"]


@pytest.mark.parametrize(
    ("parameters", "tls"),
    [
        ({}, None),
        ({"scheme": "https"}, TlsFiles(verify=False)),
        ({"scheme": "https", "caCertPath": "/ca"}, TlsFiles(verify=True, ca="/ca")),
        ({"scheme": "https", "insecureSkipVerify": False}, TlsFiles(verify=True)),
        (
            {"scheme": "https", "insecureSkipVerify": True, "caCertPath": "/ca"},
            TlsFiles(verify=False, ca="/ca"),
        ),
    ],
)
async def test_how_an_endpoint_is_trusted(parameters: dict[str, Any], tls: TlsFiles | None) -> None:
    built, asked = layer({"type": "metrics-data-source", "parameters": parameters}), Asked()
    await built.metrics.source.read(endpoint(), asked)
    assert asked.urls[0][1] == tls
    assert built.tls == ({tls} if tls else set())


def core(**parameters: Any) -> dict[str, Any]:
    extractors = [{"type": "core-metrics-extractor", "parameters": parameters}]
    return {"type": "metrics-data-source", "extractors": extractors}


def test_the_label_and_the_default_of_the_engine_may_be_others() -> None:
    built = layer(core(engineLabelKey="mine", defaultEngine="trtllm-serve"))
    page = TRTLLM_SERVE.encode()
    assert built.core.read(endpoint(), page, 0.0).metrics.waiting_requests == 3
    assert built.core.read(endpoint(labels={"mine": "unheard-of"}), page, 0.0).usable
    assert not built.core.read(endpoint(labels={"mine": "vllm"}), page, 0.0).usable


def test_of_a_known_engine_a_part_may_be_said_anew() -> None:
    config = {"name": "vllm", "kvUsageSpec": "vllm:gpu_cache_usage_perc"}
    page = VLLM.replace("kv_cache_usage_perc", "gpu_cache_usage_perc").encode()
    metrics = layer(core(engineConfigs=[config])).core.read(endpoint(), page, 0.0).metrics
    assert (metrics.kv_cache_utilization, metrics.waiting_requests) == (0.25, 2)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([{"type": "no-such"}], "no-such"),
        ([{"type": "models-data-source", "parameters": {"colour": 1}}], "colour"),
        ([{"type": "models-data-source", "parameters": {"scheme": "ftp"}}], "ftp"),
        ([{"type": "models-data-source", "extractors": [{"type": "x"}]}], "no plugin 'x'"),
        ([{"type": "models-data-source"}] * 2, "two sources have the name"),
        ([{"type": "metrics-data-source"}] * 2, "two sources of the engines' metrics"),
        ([{"type": "metrics-data-source", "interval_s": 3.0}], "scrape_interval_s"),
        ([core(defaultEngine="x")], "no engine 'x'"),
        ([core(engineConfigs=[{"name": "x"}])], "queuedRequestsSpec"),
        ([core(engineConfigs=[{"name": "vllm", "kvUsageSpec": "a{"}])], r"vllm\]\.kvUsageSpec"),
    ],
)
def test_what_cannot_be_is_refused(entries: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        layer(*entries)
