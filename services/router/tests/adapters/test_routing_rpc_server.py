import pytest

from pointsman_common.contract_codec import unpack_block_hashes
from pointsman_common.contracts import routing_pb2
from pointsman_common.contracts.layer_pb2 import HeaderValue, Rejection
from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_router.adapters.routing_rpc_server import ROUTE, RoutingHook
from pointsman_router.core.pool_routers import PoolRouters
from pointsman_router.core.prompt_fingerprint import block_hashes, chain_seed
from pointsman_router.metrics import Metrics
from wire import Channel, Server

POOL = "default/llama"
RULE = ModelRule("InferenceModelRewrite/r", frozenset({"m"}), (ModelTarget("t"),))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def a_hook(metrics: Metrics, *rules: ModelRule, read_usage: bool = True) -> RoutingHook:
    routers = PoolRouters(
        None,
        max_prefix_blocks=100,
        forwarded_headers=["x-session-id"],
        on_refused=lambda *_: None,
    )
    routers.use(InferencePool(name=POOL, model_rules=rules, objectives={"high": 7}))
    return RoutingHook(routers, VirtualClock(), metrics, read_usage=read_usage)


def a_request(
    body: bytes = b'{"model":"m","prompt":"hi","stream":true}',
    *headers: tuple[str, bytes],
    path: bytes = b"/v1/completions",
    pool: str = POOL,
) -> routing_pb2.RouteRequest:
    items = ((":method", b"POST"), (":path", path), *headers)
    return routing_pb2.RouteRequest(
        request_id="r1",
        pool=pool,
        headers=[HeaderValue(key=key, value=value) for key, value in items],
        body=body,
        arrived_at=1.5,
    )


def answered(hook: RoutingHook, request: routing_pb2.RouteRequest) -> routing_pb2.RouteResponse:
    answer = hook(request.SerializeToString())
    assert isinstance(answer, bytes), "a plain request is answered at once"
    return routing_pb2.RouteResponse.FromString(answer)


def refused(hook: RoutingHook, request: routing_pb2.RouteRequest) -> Rejection:
    answer = answered(hook, request)
    assert answer.WhichOneof("outcome") == "rejection"
    return answer.rejection


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def test_the_descriptor_tells_what_the_request_is(metrics: Metrics) -> None:
    request = a_request(
        b'{"model":"m","prompt":"hi","stream":true,"max_tokens":5}',
        ("x-llm-d-inference-objective", b"high"),
        ("x-llm-d-slo-ttft-ms", b"200"),
        ("x-session-id", b"s"),
    )
    routed = answered(a_hook(metrics), request).routed
    told = routed.descriptor
    assert (told.request_id, told.pool, told.arrived_at) == ("r1", POOL, 1.5)
    assert (told.model, told.target_model, told.api) == ("m", "m", "openai-completions")
    assert (told.priority, told.objective, told.fairness_id) == (7, "high", "default-flow")
    assert (told.prompt_tokens, told.max_output_tokens, told.stream) == (1, 5, True)
    assert (told.ttft_slo_ms, told.HasField("tpot_slo_ms")) == (200, False)
    assert not told.HasField("queue_ttl_ms") and not told.HasField("subset")
    assert dict(told.headers) == {"x-session-id": "s"}
    assert told.body_bytes == len(request.body)
    chain = block_hashes([b"hi"], seed=chain_seed("m", ""), block_tokens=64, max_blocks=9)
    assert list(unpack_block_hashes(told.prompt_block_hashes)) == chain
    assert (told.block_tokens, routed.wants_usage, routed.model_in_answer) == (64, True, "")
    assert not routed.HasField("body_patch")
    assert list(routed.headers.remove) == ["x-llm-d-inference-objective", "x-llm-d-slo-ttft-ms"]


def test_a_rewrite_is_a_splice_and_the_answer_gets_its_name_back(metrics: Metrics) -> None:
    routed = answered(a_hook(metrics, RULE), a_request()).routed
    [splice] = routed.body_patch.splices.splices
    assert (splice.offset, splice.removed, splice.inserted) == (9, 3, b'"t"')
    assert (routed.descriptor.model, routed.descriptor.target_model) == ("m", "t")
    assert routed.model_in_answer == "m"
    rewrites = "llm_d_epp_model_rewrite_decisions_total"
    labels = {"model_rewrite_name": RULE.source, "model_name": "m", "target_model": "t"}
    assert counted(metrics, rewrites, **labels) == 1


def test_a_subset_is_handed_on_even_if_it_is_empty(metrics: Metrics) -> None:
    hook, request = a_hook(metrics), a_request()
    request.subset.SetInParent()
    assert answered(hook, request).routed.descriptor.HasField("subset")
    request.subset.endpoints.append("10.0.0.1:8000")
    told = answered(hook, request).routed.descriptor
    assert list(told.subset.endpoints) == ["10.0.0.1:8000"]


def test_usage_is_not_asked_for_where_there_is_none_or_nobody_wants_it(metrics: Metrics) -> None:
    assert not answered(a_hook(metrics), a_request(path=b"/foo")).routed.wants_usage
    quiet = a_hook(metrics, read_usage=False)
    assert not answered(quiet, a_request()).routed.wants_usage


def test_a_bad_request_is_an_answer_with_its_reason(metrics: Metrics) -> None:
    refusal = refused(a_hook(metrics), a_request(b'{"model":"m","prompt":5}'))
    assert (refusal.http_status, refusal.code, refusal.param) == (400, "BadRequest", "prompt")
    assert refusal.reason == ""
    requests = "pointsman_router_requests_total"
    assert counted(metrics, requests, api="unknown", outcome="BadRequest") == 1


def test_a_pool_that_is_not_known_is_unavailable(metrics: Metrics) -> None:
    refusal = refused(a_hook(metrics), a_request(pool="default/nobody"))
    assert (refusal.http_status, refusal.code) == (503, "ServiceUnavailable")
    assert refusal.message == "pool default/nobody is not known"


def test_a_body_of_any_bytes_never_fails_the_call(metrics: Metrics) -> None:
    hook = a_hook(metrics, RULE)
    for body in (b"", b"\xff", b"[" * 200_000, b'{"model":"m","prompt":[[[1]]]}', b'{"a":' * 9_000):
        assert refused(hook, a_request(body)).http_status == 400


async def test_the_hook_is_served_over_a_connection(metrics: Metrics) -> None:
    server = Server()
    server.unary(ROUTE, a_hook(metrics))
    [address] = await server.listen("127.0.0.1:0")
    async with Channel(address) as channel:
        reply = await channel.unary(ROUTE, a_request().SerializeToString(), timeout_s=5)
    assert routing_pb2.RouteResponse.FromString(reply).routed.descriptor.model == "m"
    await server.drain(0)
