from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.contract_codec import (
    decode_endpoint,
    decode_endpoints,
    decode_metrics,
    decode_pool_config,
    encode_endpoint,
    encode_metrics,
    encode_pool_config,
    pack_block_hashes,
    unpack_block_hashes,
)
from pointsman_common.contracts import pool_pb2
from pointsman_common.endpoint import Endpoint, EndpointMetrics
from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget, RoutePolicy
from pointsman_common.testing.builders import an_endpoint

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
COUNTS = st.integers(0, 2**32 - 1)
SHARES = st.floats(0, 1)
AGES_MS = st.integers(0, 10**7)

METRICS = st.builds(
    EndpointMetrics,
    waiting_requests=st.none() | COUNTS,
    running_requests=st.none() | COUNTS,
    kv_cache_utilization=st.none() | SHARES,
    active_loras=st.frozensets(WORDS, max_size=3),
    waiting_loras=st.frozensets(WORDS, max_size=3),
    max_loras=st.none() | COUNTS,
    block_size_tokens=st.none() | COUNTS,
    kv_cache_blocks=st.none() | st.integers(0, 2**64 - 1),
    attributes=st.dictionaries(WORDS, st.floats(allow_nan=False), max_size=3),
)
ENDPOINTS = st.builds(
    Endpoint,
    uid=WORDS,
    name=WORDS,
    address=WORDS,
    labels=st.dictionaries(WORDS, WORDS, max_size=3),
    ready=st.booleans(),
    not_ready_reason=WORDS,
    engine=WORDS,
    rank=COUNTS,
    epoch=st.integers(0, 2**64 - 1),
    metrics=METRICS,
)
POOLS = st.builds(
    InferencePool,
    name=WORDS,
    hash=WORDS,
    selector=st.dictionaries(WORDS, WORDS, max_size=3),
    target_ports=st.lists(st.integers(1, 65535), max_size=3).map(tuple),
    app_protocol=st.sampled_from(["http", "kubernetes.io/h2c"]),
    failure_mode=st.sampled_from(["FailOpen", "FailClose"]),
    objectives=st.dictionaries(WORDS, st.integers(-(2**31), 2**31 - 1), max_size=3),
    model_rules=st.lists(
        st.builds(
            ModelRule,
            source=WORDS,
            models=st.frozensets(WORDS, max_size=3),
            targets=st.lists(st.builds(ModelTarget, WORDS, COUNTS), max_size=3).map(tuple),
            priority=st.none() | st.integers(-(2**31), 2**31 - 1),
        ),
        max_size=3,
    ).map(tuple),
    endpoint_picker_config=WORDS,
    served_models=st.frozensets(WORDS, max_size=3),
    lora_adapters=st.frozensets(WORDS, max_size=3),
    prefix_block_tokens=st.integers(1, 4096),
    route_policies=st.lists(st.builds(RoutePolicy, WORDS, WORDS), max_size=3).map(tuple),
)


@given(ENDPOINTS, AGES_MS, AGES_MS)
def test_an_endpoint_comes_back_whole_on_another_clock(
    endpoint: Endpoint, sender_age_ms: int, other_clock_ms: int
) -> None:
    sender, reader = 50_000.0, 70_000.0 + other_clock_ms / 1e3
    sent = replace(
        endpoint, metrics=replace(endpoint.metrics, read_at=sender - sender_age_ms / 1e3)
    )
    read = decode_endpoint(
        pool_pb2.Endpoint.FromString(encode_endpoint(sent, sender).SerializeToString()), reader
    )
    assert read.metrics.age_s(reader) == pytest.approx(sender_age_ms / 1e3, abs=0.001)
    assert replace(read, metrics=replace(read.metrics, read_at=None)) == endpoint


@given(POOLS)
def test_a_pools_configuration_comes_back_whole(pool: InferencePool) -> None:
    wire = encode_pool_config(pool).SerializeToString()
    assert decode_pool_config(pool_pb2.PoolConfig.FromString(wire)) == pool


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_block_hashes_come_back_in_order(hashes: list[int]) -> None:
    packed = pack_block_hashes(hashes)
    assert len(packed) == 8 * len(hashes)
    assert unpack_block_hashes(packed) == tuple(hashes)


def test_block_hashes_are_little_endian() -> None:
    assert pack_block_hashes([1]) == b"\x01\0\0\0\0\0\0\0"


def test_block_hashes_cut_in_the_middle_are_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple of 8"):
        unpack_block_hashes(b"123456789")


def test_what_was_never_reported_stays_unknown_and_is_not_zero() -> None:
    read = decode_metrics(encode_metrics(EndpointMetrics(), 5.0), 7.0)
    assert read == EndpointMetrics()
    assert read.age_s(7.0) == float("inf")
    known = decode_metrics(encode_metrics(EndpointMetrics(waiting_requests=0), 5.0), 7.0)
    assert known.waiting_requests == 0
    assert known.running_requests is None


def test_an_age_beyond_the_field_is_the_fields_largest() -> None:
    metrics = EndpointMetrics(read_at=0.0)
    assert encode_metrics(metrics, 1e9).age_ms == 2**32 - 1


def test_a_configuration_that_leaves_fields_out_has_the_defaults_of_the_contract() -> None:
    pool = decode_pool_config(pool_pb2.PoolConfig(pool="default/llama"))
    assert (pool.app_protocol, pool.failure_mode, pool.prefix_block_tokens) == (
        "http",
        "FailClose",
        64,
    )


def test_endpoints_are_decoded_in_order() -> None:
    sent = [an_endpoint(2), an_endpoint(1)]
    read = decode_endpoints((encode_endpoint(item, 1_000.0) for item in sent), 1_000.0)
    assert [item.uid for item in read] == ["e2", "e1"]
