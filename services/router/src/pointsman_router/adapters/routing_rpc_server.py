"""Serves routing.v1: bytes in, a decision of the pool's router, bytes out."""

from pointsman_common.clock import Clock
from pointsman_common.contract_codec import pack_block_hashes
from pointsman_common.contracts import routing_pb2
from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_common.error_mapping import rejection, rejection_of
from pointsman_common.errors import RequestError
from pointsman_router.core.pool_routers import PoolRouters
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.request_parsers.json_body import MAX_UINT32
from pointsman_router.core.request_router import RoutingDecision
from pointsman_router.metrics import Metrics

ROUTE = "/pointsman.routing.v1.Router/Route"


class RoutingHook:
    """The hook's handler. Benchmark: tests/load/bench_route.py."""

    def __init__(
        self, routers: PoolRouters, clock: Clock, metrics: Metrics, *, read_usage: bool
    ) -> None:
        self._routers, self._clock, self._metrics = routers, clock, metrics
        self._read_usage = read_usage

    def __call__(self, message: bytes) -> bytes:
        started = self._clock.monotonic()
        request = routing_pb2.RouteRequest.FromString(message)
        router = self._routers.get(request.pool)
        if router is None:
            refusal = rejection("ServiceUnavailable", f"pool {request.pool[:200]} is not known")
            return self._refused(refusal)
        headers = RequestHeaders([(item.key, item.value) for item in request.headers])
        try:
            decision = router.route(headers, request.body, bodiless=request.bodiless)
        except RequestError as error:
            return self._refused(rejection_of(error))
        answer = self._encoded(request, decision)
        self._count(decision, self._clock.monotonic() - started)
        return answer

    def _refused(self, refusal: Rejection) -> bytes:
        self._metrics.count_refused(refusal.code)
        return routing_pb2.RouteResponse(rejection=refusal).SerializeToString()

    def _count(self, decision: RoutingDecision, duration_s: float) -> None:
        self._metrics.count_routed(decision.parsed.api, duration_s)
        if decision.rule is not None:
            self._metrics.count_rewrite(
                decision.rule.source, decision.parsed.model, decision.target_model
            )

    def _encoded(self, request: routing_pb2.RouteRequest, decision: RoutingDecision) -> bytes:
        # Field by field into the answer itself: a message built apart would be copied, twice.
        parsed, response = decision.parsed, routing_pb2.RouteResponse()
        routed = response.routed
        told = routed.descriptor
        told.request_id, told.pool = request.request_id, request.pool
        told.arrived_at, told.bodiless = request.arrived_at, request.bodiless
        told.api, told.stream = parsed.api, parsed.stream
        told.model, told.target_model = parsed.model, decision.target_model
        told.lora = decision.lora
        told.priority, told.objective = decision.priority, decision.objective
        told.fairness_id = decision.fairness_id
        told.prompt_tokens = min(parsed.prompt_tokens, MAX_UINT32)
        told.max_output_tokens = parsed.max_output_tokens
        told.prompt_block_hashes = pack_block_hashes(decision.block_hashes)
        told.block_tokens = decision.block_tokens
        told.body_bytes = decision.body_bytes
        told.cached_only = decision.cached_only
        if decision.ttft_slo_ms is not None:
            told.ttft_slo_ms = decision.ttft_slo_ms
        if decision.tpot_slo_ms is not None:
            told.tpot_slo_ms = decision.tpot_slo_ms
        if decision.queue_ttl_ms is not None:
            told.queue_ttl_ms = decision.queue_ttl_ms
        if decision.forwarded_headers:
            told.headers.update(decision.forwarded_headers)
        if request.HasField("subset"):
            told.subset.CopyFrom(request.subset)
        routed.wants_usage = self._read_usage and parsed.reports_usage
        if decision.target_model != parsed.model:
            routed.model_in_answer = parsed.model
        if decision.remove_headers:
            routed.headers.remove.extend(decision.remove_headers)
        for splice in decision.splices:
            routed.body_patch.splices.splices.add(
                offset=splice.offset, removed=splice.removed, inserted=splice.inserted
            )
        return response.SerializeToString()
