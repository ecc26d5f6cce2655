"""One request of one pool: what it is, and what it becomes. The sum of the other files here."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from pointsman_common.errors import BadRequestError, NotFoundError
from pointsman_common.inference_pool import InferencePool, ModelRule
from pointsman_router.core import request_headers as names
from pointsman_router.core.flow_key import fairness_id_of
from pointsman_router.core.inference_objective import priority_of
from pointsman_router.core.json_splice import (
    Splice,
    applied,
    difference,
    replace_value,
    size_after,
)
from pointsman_router.core.model_rewrite import ModelChoice, ModelRewriter
from pointsman_router.core.prompt_fingerprint import block_hashes, chain_seed
from pointsman_router.core.request_headers import RequestHeaders, milliseconds
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.passthrough import PASSED
from pointsman_router.core.request_parsers.registry import ParserRegistry
from pointsman_router.core.rules.callout import CalloutReply
from pointsman_router.core.rules.rule import Refusal, RuleRequest
from pointsman_router.core.rules.rule_chain import RuleCall, RuleChain, RuleReport
from pointsman_router.core.token_ratio import TokenRatios

LONGEST_QUEUE_TTL_MS = 3_600_000
MAX_SHOWN_MODEL = 100
MAX_OBJECTIVE_CHARACTERS = 253
"""Of a name in Kubernetes."""

METHODS_WITH_BODY = ("POST", "PUT", "PATCH")


class RoutingDecision(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What later layers and the edge are told; see RequestDescriptor for the meanings."""

    parsed: ParsedRequest
    model: str
    """As the client asked."""
    target_model: str
    lora: str
    priority: int
    fairness_id: str
    objective: str
    prompt_tokens: int
    block_hashes: Sequence[int]
    block_tokens: int
    splices: tuple[Splice, ...]
    """Changes to the body; empty: it goes on byte for byte."""
    body_bytes: int
    """Of the body to be sent."""
    ttft_slo_ms: int | None
    tpot_slo_ms: int | None
    queue_ttl_ms: int | None
    cached_only: bool
    set_headers: Mapping[str, str]
    remove_headers: Sequence[str]
    forwarded_headers: Mapping[str, str]
    rule: ModelRule | None
    """The rule that chose the target model."""


@dataclass(slots=True)
class _Asked:
    """What a request asks for, by itself or as the rules leave it."""

    headers: RequestHeaders
    parsed: ParsedRequest
    body: bytes
    model: str
    fairness_id: str
    objective: str
    sticky_key: str = ""
    control: Sequence[str] = ()


RoutingSteps = Generator[RuleCall, CalloutReply, RoutingDecision | Refusal]


class RequestRouter:
    """The router of one pool, under the configuration last taken over."""

    def __init__(
        self,
        pool: InferencePool,
        parsers: ParserRegistry,
        *,
        max_prefix_blocks: int,
        forwarded_headers: Sequence[str],
        rules: RuleChain | None = None,
        ratios: TokenRatios | None = None,
    ) -> None:
        """`ratios` says how many tokens the engines really count."""
        self._max_prefix_blocks = max_prefix_blocks
        self._forwarded = frozenset(forwarded_headers)
        self._rewriter = ModelRewriter()
        self._ratios = ratios or TokenRatios()
        self.use(pool, parsers, rules)

    def use(
        self, pool: InferencePool, parsers: ParserRegistry, rules: RuleChain | None = None
    ) -> None:
        """Take over a configuration; rewrites that stay keep their counts."""
        self._pool, self._parsers, self.rules = pool, parsers, rules
        self._rewriter.use(pool.model_rules)

    def route(self, headers: RequestHeaders, body: bytes, *, bodiless: bool) -> RoutingDecision:
        """Decide without rules.

        Raises:
            BadRequestError: the body is not what its path says.
            NotFoundError: the pool says which models it serves, and this one is not among them.
        """
        asked = self._asked(headers, body, bodiless=bodiless)
        return self._decided(asked, asked.parsed.model)

    def route_by_rules(
        self,
        headers: RequestHeaders,
        body: bytes,
        *,
        bodiless: bool,
        request_id: str,
        now: float,
        report: RuleReport,
    ) -> RoutingSteps:
        """Decide by the pool's rules, which may ask others in between.

        `now` is monotonic seconds. Raises as `route` does, when it is driven.
        """
        asked = self._asked(headers, body, bodiless=bodiless)
        if self.rules is None:
            return self._decided(asked, asked.parsed.model)
        request = RuleRequest(
            request_id=request_id,
            pool=self._pool.name,
            method=headers.get(":method") or "",
            path=headers.path(),
            headers=headers,
            parsed=asked.parsed,
            body=body,
            model=asked.model,
            fairness_id=asked.fairness_id,
            objective=asked.objective,
            now=now,
        )
        ruled = yield from self.rules.run(request, self._parsers.parse, report)
        if isinstance(ruled, Refusal):
            return ruled
        left = ruled.request
        decision = self._decided(
            _Asked(
                left.headers,
                left.parsed,
                left.body,
                left.model,
                fairness_id_of(left.fairness_id),
                left.objective[:MAX_OBJECTIVE_CHARACTERS],
                left.sticky_key,
                asked.control,
            ),
            asked.parsed.model,
        )
        # What the edge is told is relative to the body and the headers that it has.
        sent = left.body if left.body is body else applied(left.body, decision.splices)
        removed = {*decision.remove_headers, *ruled.remove_headers} - ruled.set_headers.keys()
        return msgspec.structs.replace(
            decision,
            splices=decision.splices if left.body is body else difference(body, sent),
            set_headers=ruled.set_headers,
            remove_headers=sorted(removed),
        )

    def with_token_ids(
        self, decision: RoutingDecision, prompts: Sequence[bytes]
    ) -> RoutingDecision:
        """A decision, once the tokens of its prompts are known: each as little-endian u32."""
        block_tokens = self._pool.prefix_block_tokens
        parsed = msgspec.structs.replace(decision.parsed, prompts=tuple(prompts), token_ids=True)
        return msgspec.structs.replace(
            decision,
            parsed=parsed,
            prompt_tokens=parsed.prompt_tokens,
            block_hashes=block_hashes(
                parsed.prompts,
                seed=chain_seed(decision.target_model, parsed.cache_salt),
                block_tokens=block_tokens,
                max_blocks=self._max_prefix_blocks,
            ),
            block_tokens=block_tokens,
        )

    def _asked(self, headers: RequestHeaders, body: bytes, *, bodiless: bool) -> _Asked:
        parsed = self._parse(headers, body, bodiless=bodiless)
        control = headers.control_names()
        objective, fairness_id = "", None
        if control:
            objective = (headers.get(*names.OBJECTIVE) or "")[:MAX_OBJECTIVE_CHARACTERS]
            fairness_id = headers.get(*names.FAIRNESS_ID)
        return _Asked(
            headers,
            parsed,
            body,
            parsed.model,
            fairness_id_of(fairness_id),
            objective,
            control=control,
        )

    def _decided(self, asked: _Asked, client_model: str) -> RoutingDecision:
        parsed, headers, pool, control = asked.parsed, asked.headers, self._pool, asked.control
        choice = self._choose_model(asked)
        target = choice.target_model
        splices: tuple[Splice, ...] = ()
        if target != parsed.model and parsed.names_model:
            splices = _rewritten(parsed, asked.body, target)
        prompt_tokens, block_tokens = parsed.prompt_tokens, pool.prefix_block_tokens
        ratio = 1.0 if parsed.token_ids else self._ratios.of(target)
        if ratio != 1.0:
            prompt_tokens = round(prompt_tokens * ratio)
            block_tokens = max(1, round(block_tokens * ratio))
        ttft_slo_ms = tpot_slo_ms = queue_ttl_ms = None
        if control and not names.LIMITS.isdisjoint(control):
            ttft_slo_ms = milliseconds(headers.get(*names.TTFT_SLO_MS))
            tpot_slo_ms = milliseconds(headers.get(*names.TPOT_SLO_MS))
            queue_ttl_ms = milliseconds(headers.get(*names.QUEUE_TTL_MS), most=LONGEST_QUEUE_TTL_MS)
        return RoutingDecision(
            parsed=parsed,
            model=client_model,
            target_model=target,
            lora=target if target in pool.lora_adapters else parsed.lora,
            priority=priority_of(asked.objective, pool.objectives, choice.priority),
            fairness_id=asked.fairness_id,
            objective=asked.objective,
            prompt_tokens=prompt_tokens,
            block_hashes=block_hashes(
                parsed.prompts,
                seed=chain_seed(target, parsed.cache_salt),
                block_tokens=pool.prefix_block_tokens,
                max_blocks=self._max_prefix_blocks,
            ),
            block_tokens=block_tokens,
            splices=splices,
            body_bytes=size_after(asked.body, splices) if splices else len(asked.body),
            ttft_slo_ms=ttft_slo_ms,
            tpot_slo_ms=tpot_slo_ms,
            queue_ttl_ms=queue_ttl_ms,
            cached_only=headers.prefers("if-available"),
            set_headers={},
            remove_headers=control,
            forwarded_headers=headers.selected(self._forwarded),
            rule=choice.rule,
        )

    def _parse(self, headers: RequestHeaders, body: bytes, *, bodiless: bool) -> ParsedRequest:
        # A POST without a body is an empty body to the API that it is meant for.
        if bodiless and headers.get(":method") not in METHODS_WITH_BODY:
            return PASSED
        return self._parsers.parse(headers, body)

    def _choose_model(self, asked: _Asked) -> ModelChoice:
        if not asked.parsed.names_model:
            return ModelChoice(asked.parsed.model, None, None)
        header = asked.headers.get(*names.MODEL_REWRITE) if asked.control else None
        choice = self._rewriter.choose(asked.model, header=header, sticky_key=asked.sticky_key)
        served = self._pool.served_models
        if served and asked.model not in served and choice.target_model not in served:
            raise NotFoundError(f"The model `{_shown(asked.model)}` does not exist.", param="model")
        return choice


def _rewritten(parsed: ParsedRequest, body: bytes, target: str) -> tuple[Splice, ...]:
    if parsed.model_at is None:
        return replace_value(body, "model", target)
    if not target.isprintable():
        raise BadRequestError("the target model cannot be written in a form", param="model")
    start, end = parsed.model_at
    return (Splice(start, end - start, target.encode()),)


def _shown(model: str) -> str:
    """A client's text within a line of ours."""
    return "".join(c if c.isprintable() else "?" for c in model[:MAX_SHOWN_MODEL])
