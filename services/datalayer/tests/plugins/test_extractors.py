"""What the extractors make of a body."""

import pytest

from pointsman_datalayer.core.data_source import (
    MAX_ATTRIBUTES,
    NamedExtractor,
    PolledSource,
    acceptable,
    extract_all,
)
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint
from pointsman_datalayer.plugins.extractors.dcgm_extractor import DcgmExtractor
from pointsman_datalayer.plugins.extractors.models_data_extractor import ModelsDataExtractor
from pointsman_datalayer.plugins.http_source import HttpParameters, HttpSource

ENDPOINT = DiscoveredEndpoint("a", "default/pod-7-rank-0", "10.0.0.1:8000", {}, "vllm")


def test_models_and_adapters_are_attributes() -> None:
    body = (
        b'{"object":"list","data":[{"id":"llama","max_model_len":9},{"id":"sql","parent":"llama"}]}'
    )
    found = ModelsDataExtractor().extract(ENDPOINT, body)
    assert found == {"/v1/models/llama": 1.0, "/v1/models/sql": 1.0}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data":[{"name":"x"}]}'])
def test_what_is_no_list_of_models_is_a_problem(body: bytes) -> None:
    with pytest.raises(ValueError, match="no list of models"):
        ModelsDataExtractor().extract(ENDPOINT, body)


def test_the_busiest_gpu_of_the_pod_counts() -> None:
    body = (
        b'DCGM_FI_DEV_GPU_UTIL{gpu="0",pod="pod-7"} 40\n'
        b'DCGM_FI_DEV_GPU_UTIL{gpu="1",pod="pod-7"} 75\n'
        b'DCGM_FI_DEV_GPU_UTIL{gpu="2",pod="other"} 99\n'
    )
    assert DcgmExtractor().extract(ENDPOINT, body) == {"GPUUtilization": 0.75}
    without_pods = b'DCGM_FI_DEV_GPU_UTIL{gpu="0"} 40\nDCGM_FI_DEV_GPU_UTIL{gpu="1"} NaN\n'
    assert DcgmExtractor().extract(ENDPOINT, without_pods) == {"GPUUtilization": 0.4}
    assert DcgmExtractor().extract(ENDPOINT, body.replace(b"pod-7", b"x")) == {}
    with pytest.raises(ValueError, match="DCGM_FI_DEV_GPU_UTIL"):
        DcgmExtractor().extract(ENDPOINT, b"a 1\n")


def test_attributes_are_bounded_and_finite() -> None:
    assert acceptable({"a": 1, "b": float("nan"), "": 1.0, "c" * 300: 1.0}) == {"a": 1.0}
    assert len(acceptable({str(number): 1.0 for number in range(1000)})) == MAX_ATTRIBUTES


def test_an_extractor_that_raises_is_named_and_the_others_are_read() -> None:
    class Broken:
        def extract(self, endpoint: DiscoveredEndpoint, body: bytes) -> dict[str, float]:
            raise KeyError(body)

    extractors = (
        NamedExtractor("broken", Broken()),
        NamedExtractor("models-data-extractor", ModelsDataExtractor()),
    )
    source = HttpSource(HttpParameters(), "/")
    polled = PolledSource("s", "s", source, extractors, 1.0)
    found, problems = extract_all(polled, ENDPOINT, b'{"data":[{"id":"m"}]}')
    assert found == {"/v1/models/m": 1.0}
    assert problems.keys() == {"broken"}
