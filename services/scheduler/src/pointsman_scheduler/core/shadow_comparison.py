"""How a shadow's decisions stand to production's: what a window of them says. Pure.

Both are measured by the same yardstick: the shadow's prefix index and in-flight load, which follow
production's placements, and one predictor of seconds. The figures say what each single decision
would have been worth on production's state, not what a pool run by the shadow would have become.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from pointsman_common.contracts.events_pb2 import ShadowReport
from pointsman_common.endpoint import Endpoint
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.endpoint_speed import ExpectedTtft
from pointsman_scheduler.core.picking import Pick
from pointsman_scheduler.core.plugin_protocols import LatencyPredictor
from pointsman_scheduler.core.scheduler import Decision
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


class Skipped(StrEnum):
    """Why a pick of production was not decided on."""

    NO_DESCRIPTOR = "no-descriptor"
    """The edge did not send it along: it has not heard of the shadow yet."""
    UNSCHEDULED = "unscheduled"
    """No scheduler picked: the edge did by itself."""
    UNKNOWN_ENDPOINT = "unknown-endpoint"
    """Production's choice is none of the shadow's candidates."""
    NOT_SAMPLED = "not-sampled"
    FAILED = "failed"
    """The shadow's policy raised an error."""


@dataclass(slots=True)
class Side:
    """The placements of one of the two, of the decisions of both."""

    ttft_s: float = 0.0
    """Sum of the predicted times to first token."""
    cached_tokens: int = 0
    prefill_tokens: Counter[str] = field(default_factory=Counter[str])
    """By endpoint's uid."""

    def imbalance(self, endpoints: int) -> float:
        """The busiest endpoint's prefill tokens over the mean; 0 when there are none."""
        total = self.prefill_tokens.total()
        return max(self.prefill_tokens.values()) * endpoints / total if total else 0.0


@dataclass(slots=True)
class Window:
    decisions: int = 0
    agreed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    endpoints: int = 0
    """Most candidates of a decision."""
    shadow: Side = field(default_factory=Side)
    production: Side = field(default_factory=Side)
    skipped: Counter[Skipped] = field(default_factory=Counter[Skipped])
    observed: int = 0
    observed_ttft_s: float = 0.0
    """Sum over the first tokens that production told of."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Production's placement as the shadow sees it."""

    request: SchedulingRequest
    candidates: Candidates
    endpoint: Endpoint
    """Production's choice."""
    expected: ExpectedTtft
    """Of the request there."""


class ShadowComparison:
    """Of one pool."""

    def __init__(self) -> None:
        self.window = Window()

    def skip(self, why: Skipped) -> None:
        self.window.skipped[why] += 1

    def observe_ttft(self, seconds: float) -> None:
        """Production's first token came."""
        self.window.observed += 1
        self.window.observed_ttft_s += seconds

    def compare(self, pick: Pick, production: str, predictor: LatencyPredictor) -> Compared | None:
        """Set the shadow's pick beside production's endpoint, a uid or an address; `None`: that is
        none of the candidates.

        To be called before anything else happens: the candidates' columns are the live ones.
        """
        window, request, candidates = self.window, pick.request, pick.candidates
        theirs = None if candidates is None else row_of(candidates, production)
        if request is None or candidates is None or theirs is None:
            self.skip(Skipped.UNKNOWN_ENDPOINT)
            return None
        window.decisions += 1
        prediction = predictor.predict(request, candidates)
        compared = Compared(
            request,
            candidates,
            candidates.endpoints[theirs],
            ExpectedTtft(float(prediction.prefill_s[theirs]), float(prediction.overhead_s[theirs])),
        )
        if not isinstance(pick.outcome, Decision):
            window.refused += 1
            return compared
        ours = pick.outcome.row
        window.agreed += ours == theirs
        window.prompt_tokens += request.prompt_tokens
        window.endpoints = max(window.endpoints, len(candidates))
        for side, row in ((window.shadow, ours), (window.production, theirs)):
            cached = cached_tokens(request, candidates, row)
            side.ttft_s += float(prediction.ttft_s[row])
            side.cached_tokens += cached
            side.prefill_tokens[candidates.endpoints[row].uid] += request.prompt_tokens - cached
        return compared

    def take_report(self, *, window_s: float) -> ShadowReport:
        """What the window said, without envelope, pool and name; a new window begins."""
        window, self.window = self.window, Window()
        placed = window.decisions - window.refused
        return ShadowReport(
            window_s=window_s,
            decisions=window.decisions,
            agreed=window.agreed,
            refused=window.refused,
            mean_predicted_ttft_s=_mean(window.shadow.ttft_s, placed),
            mean_predicted_ttft_production_s=_mean(window.production.ttft_s, placed),
            hit_ratio=_mean(window.shadow.cached_tokens, window.prompt_tokens),
            hit_ratio_production=_mean(window.production.cached_tokens, window.prompt_tokens),
            imbalance=window.shadow.imbalance(window.endpoints),
            imbalance_production=window.production.imbalance(window.endpoints),
            skipped=window.skipped.total(),
            skipped_by={str(why): count for why, count in window.skipped.items()},
            observed=window.observed,
            mean_observed_ttft_s=_mean(window.observed_ttft_s, window.observed),
        )


def row_of(candidates: Candidates, endpoint: str) -> int | None:
    """Row of the candidate of that uid or address."""
    for row, one in enumerate(candidates.endpoints):
        if endpoint and endpoint in (one.uid, one.address):
            return row
    return None


def cached_tokens(request: SchedulingRequest, candidates: Candidates, row: int) -> int:
    """Prompt tokens that a candidate likely holds. The last one is always computed."""
    held = int(candidates.cached_blocks[row]) * request.block_tokens
    return min(held, max(request.prompt_tokens - 1, 0))


def _mean(total: float, count: float) -> float:
    return total / count if count else 0.0
