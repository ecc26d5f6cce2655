"""One request of one pool: what it is, and what it becomes. The sum of the other files here."""

from collections.abc import Mapping, Sequence

import msgspec

from pointsman_common.errors import NotFoundError
from pointsman_common.inference_pool import InferencePool, ModelRule
from pointsman_router.core import request_headers as names
from pointsman_router.core.flow_key import fairness_id_of
from pointsman_router.core.inference_objective import priority_of
from pointsman_router.core.json_splice import Splice, replace_value, size_after
from pointsman_router.core.model_rewrite import ModelChoice, ModelRewriter
from pointsman_router.core.prompt_fingerprint import block_hashes, chain_seed
from pointsman_router.core.request_headers import RequestHeaders, milliseconds
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.request_parsers.passthrough import PASSED
from pointsman_router.core.request_parsers.registry import ParserRegistry

LONGEST_QUEUE_TTL_MS = 3_600_000
MAX_SHOWN_MODEL = 100
MAX_OBJECTIVE_CHARACTERS = 253
"""Of a name in Kubernetes."""

METHODS_WITH_BODY = ("POST", "PUT", "PATCH")


class RoutingDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What later layers and the edge are told; see RequestDescriptor for the meanings."""

    parsed: ParsedRequest
    target_model: str
    lora: str
    priority: int
    fairness_id: str
    objective: str
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
    remove_headers: Sequence[str]
    forwarded_headers: Mapping[str, str]
    rule: ModelRule | None
    """The rule that chose the target model."""


class RequestRouter:
    """The router of one pool, under the configuration last taken over."""

    def __init__(
        self,
        pool: InferencePool,
        parsers: ParserRegistry,
        *,
        max_prefix_blocks: int,
        forwarded_headers: Sequence[str],
    ) -> None:
        self._max_prefix_blocks, self._forwarded = max_prefix_blocks, forwarded_headers
        self._rewriter = ModelRewriter()
        self.use(pool, parsers)

    def use(self, pool: InferencePool, parsers: ParserRegistry) -> None:
        """Take over a configuration; rules that stay keep their counts."""
        self._pool, self._parsers = pool, parsers
        self._rewriter.use(pool.model_rules)

    def route(self, headers: RequestHeaders, body: bytes, *, bodiless: bool) -> RoutingDecision:
        """Decide.

        Raises:
            BadRequestError: the body is not what its path says.
            NotFoundError: the pool says which models it serves, and this one is not among them.
        """
        parsed = self._parse(headers, body, bodiless=bodiless)
        choice = self._choose_model(parsed, headers)
        target = choice.target_model
        splices: tuple[Splice, ...] = ()
        if target != parsed.model:
            splices = replace_value(body, "model", target)
        objective = (headers.get(*names.OBJECTIVE) or "")[:MAX_OBJECTIVE_CHARACTERS]
        return RoutingDecision(
            parsed=parsed,
            target_model=target,
            lora=target if target in self._pool.lora_adapters else "",
            priority=priority_of(objective, self._pool.objectives, choice.rule),
            fairness_id=fairness_id_of(headers.get(*names.FAIRNESS_ID)),
            objective=objective,
            block_hashes=block_hashes(
                parsed.prompts,
                seed=chain_seed(target, parsed.cache_salt),
                block_tokens=self._pool.prefix_block_tokens,
                max_blocks=self._max_prefix_blocks,
            ),
            block_tokens=self._pool.prefix_block_tokens,
            splices=splices,
            body_bytes=size_after(body, splices),
            ttft_slo_ms=milliseconds(headers.get(*names.TTFT_SLO_MS)),
            tpot_slo_ms=milliseconds(headers.get(*names.TPOT_SLO_MS)),
            queue_ttl_ms=milliseconds(headers.get(*names.QUEUE_TTL_MS), most=LONGEST_QUEUE_TTL_MS),
            cached_only=headers.prefers("if-available"),
            remove_headers=headers.control_names(),
            forwarded_headers=headers.selected(self._forwarded),
            rule=choice.rule if choice.by_rule else None,
        )

    def _parse(self, headers: RequestHeaders, body: bytes, *, bodiless: bool) -> ParsedRequest:
        # A POST without a body is an empty body to the API that it is meant for.
        if bodiless and headers.get(":method") not in METHODS_WITH_BODY:
            return PASSED
        return self._parsers.parser_of(headers.path()).parse(body)

    def _choose_model(self, parsed: ParsedRequest, headers: RequestHeaders) -> ModelChoice:
        if not parsed.names_model:
            return ModelChoice("", None, by_rule=False)
        header = headers.get(*names.MODEL_REWRITE)
        choice = self._rewriter.choose(parsed.model, header=header)
        served = self._pool.served_models
        if served and parsed.model not in served and choice.target_model not in served:
            raise NotFoundError(
                f"The model `{_shown(parsed.model)}` does not exist.", param="model"
            )
        return choice


def _shown(model: str) -> str:
    """A client's text within a line of ours."""
    return "".join(c if c.isprintable() else "?" for c in model[:MAX_SHOWN_MODEL])
