"""Serves routing.v1: bytes in, a decision of the pool's router, bytes out."""

from collections.abc import Awaitable
from typing import NamedTuple

from pointsman_common.clock import Clock
from pointsman_common.contract_codec import pack_block_hashes
from pointsman_common.contracts import routing_pb2
from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_common.error_mapping import HTTP_STATUS, rejection, rejection_of
from pointsman_common.errors import RequestError
from pointsman_common.structured_log import get_logger
from pointsman_router.adapters.local_tokenizers import LocalTokenizers
from pointsman_router.adapters.rule_callouts import RuleCallouts
from pointsman_router.core.pool_routers import PoolRouters
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.request_parsers.json_body import MAX_UINT32
from pointsman_router.core.request_router import RequestRouter, RoutingDecision, RoutingSteps
from pointsman_router.core.rules.rule import Refusal
from pointsman_router.core.rules.rule_chain import RuleCall, RuleReport
from pointsman_router.metrics import Metrics

log = get_logger("routing")

ROUTE = "/pointsman.routing.v1.Router/Route"
_CODES = {status: code for code, status in HTTP_STATUS.items()}


class _Exchange(NamedTuple):
    """A request that may have to wait."""

    router: RequestRouter
    request: routing_pb2.RouteRequest
    started: float


class RoutingHook:
    """The hook's handler. Benchmark: tests/load/bench_route.py.

    Answers at once, without a task, unless a rule asks another service or there are prompts to
    tokenize.
    """

    def __init__(
        self,
        routers: PoolRouters,
        clock: Clock,
        metrics: Metrics,
        *,
        read_usage: bool,
        callouts: RuleCallouts | None = None,
        tokenizers: LocalTokenizers | None = None,
    ) -> None:
        self._routers, self._clock, self._metrics = routers, clock, metrics
        self._read_usage, self._callouts = read_usage, callouts
        self._tokenizers = tokenizers

    def __call__(self, message: bytes) -> bytes | Awaitable[bytes]:
        started = self._clock.monotonic()
        request = routing_pb2.RouteRequest.FromString(message)
        router = self._routers.get(request.pool)
        if router is None:
            refusal = rejection("ServiceUnavailable", f"pool {request.pool[:200]} is not known")
            return self._refused(refusal)
        headers = RequestHeaders([(item.key, item.value) for item in request.headers])
        try:
            if router.rules is not None:
                return self._by_rules(_Exchange(router, request, started), headers)
            decision = router.route(headers, request.body, bodiless=request.bodiless)
        except RequestError as error:
            return self._refused(rejection_of(error))
        if self._tokenizers is not None and self._tokenizers.can_read(decision):
            return self._tokenized(_Exchange(router, request, started), decision)
        return self._routed(request, decision, started)

    def _by_rules(self, exchange: _Exchange, headers: RequestHeaders) -> bytes | Awaitable[bytes]:
        report, request = RuleReport(), exchange.request
        steps = exchange.router.route_by_rules(
            headers,
            request.body,
            bodiless=request.bodiless,
            request_id=request.request_id,
            now=exchange.started,
            report=report,
        )
        try:
            call = next(steps)
        except StopIteration as done:
            return self._ruled(exchange, done.value, report)
        return self._asking(exchange, steps, call, report)

    async def _asking(
        self, exchange: _Exchange, steps: RoutingSteps, call: RuleCall, report: RuleReport
    ) -> bytes:
        if self._callouts is None:
            raise TypeError("rules that ask others need callouts")
        try:
            outcome = await self._callouts.drive(steps, call)
        except RequestError as error:
            self._metrics.count_rules(report)
            return self._refused(rejection_of(error))
        answer = self._ruled(exchange, outcome, report)
        return answer if isinstance(answer, bytes) else await answer

    def _ruled(
        self, exchange: _Exchange, outcome: RoutingDecision | Refusal, report: RuleReport
    ) -> bytes | Awaitable[bytes]:
        self._metrics.count_rules(report)
        request_id = exchange.request.request_id
        for rule, kind, why in report.failures:
            log.debug("rule-failed", rule=rule, kind=kind, why=why, request_id=request_id)
        if isinstance(outcome, Refusal):
            return self._refused(_rejection(outcome))
        if self._tokenizers is not None and self._tokenizers.can_read(outcome):
            return self._tokenized(exchange, outcome)
        return self._routed(exchange.request, outcome, exchange.started)

    async def _tokenized(self, exchange: _Exchange, decision: RoutingDecision) -> bytes:
        if self._tokenizers is not None:
            prompts = await self._tokenizers.tokens(decision)
            if prompts is not None:
                decision = exchange.router.with_token_ids(decision, prompts)
        return self._routed(exchange.request, decision, exchange.started)

    def _refused(self, refusal: Rejection) -> bytes:
        self._metrics.count_refused(refusal.code)
        return routing_pb2.RouteResponse(rejection=refusal).SerializeToString()

    def _routed(
        self, request: routing_pb2.RouteRequest, decision: RoutingDecision, started: float
    ) -> bytes:
        answer = self._encoded(request, decision)
        if decision.rule is not None:
            self._metrics.count_rewrite(decision.rule.source, decision.model, decision.target_model)
        self._metrics.count_routed(decision.parsed.api, self._clock.monotonic() - started)
        return answer

    def _encoded(  # noqa: PLR0912  (one branch a field)
        self, request: routing_pb2.RouteRequest, decision: RoutingDecision
    ) -> bytes:
        # Field by field into the answer itself: a message built apart would be copied, twice. What
        # has its zero value is left out, since setting it costs as much as any other.
        parsed, response = decision.parsed, routing_pb2.RouteResponse()
        routed = response.routed
        told = routed.descriptor
        told.request_id, told.pool = request.request_id, request.pool
        told.arrived_at, told.api = request.arrived_at, parsed.api
        told.model, told.target_model = decision.model, decision.target_model
        told.fairness_id = decision.fairness_id
        told.prompt_tokens = min(decision.prompt_tokens, MAX_UINT32)
        told.prompt_block_hashes = pack_block_hashes(decision.block_hashes)
        told.block_tokens = decision.block_tokens
        told.body_bytes = decision.body_bytes
        if request.bodiless:
            told.bodiless = True
        if parsed.stream:
            told.stream = True
        if decision.lora:
            told.lora = decision.lora
        if decision.priority:
            told.priority = decision.priority
        if decision.objective:
            told.objective = decision.objective
        if parsed.max_output_tokens:
            told.max_output_tokens = parsed.max_output_tokens
        if parsed.choices:
            told.choices = parsed.choices
        if decision.cached_only:
            told.cached_only = True
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
        if self._read_usage and parsed.reports_usage:
            routed.wants_usage = True
        if decision.target_model != decision.model and parsed.names_model:
            routed.model_in_answer = decision.model
        if decision.remove_headers:
            routed.headers.remove.extend(decision.remove_headers)
        for name, value in decision.set_headers.items():
            routed.headers.set.add(key=name, value=value.encode())
        for splice in decision.splices:
            routed.body_patch.splices.splices.add(
                offset=splice.offset, removed=splice.removed, inserted=splice.inserted
            )
        return response.SerializeToString()


def _rejection(refusal: Refusal) -> Rejection:
    status = refusal.http_status if 400 <= refusal.http_status <= 599 else 500
    return Rejection(
        http_status=status,
        code=_CODES.get(status, "BadRequest" if status < 500 else "Internal"),
        message=refusal.message,
        reason=refusal.reason,
        param=refusal.param,
        retry_after_s=refusal.retry_after_s,
    )
