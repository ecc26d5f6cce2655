"""The receipt of a pick: what was seen, scored and chosen, to explain and to replay it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import isnan

import numpy as np

from pointsman_common.contracts.layer_pb2 import Envelope
from pointsman_common.contracts.scheduling_pb2 import (
    CandidateView,
    DecisionReceipt,
    PickedEndpoint,
    PluginTrace,
)
from pointsman_common.endpoint import Endpoint
from pointsman_scheduler.core.arrays import IntArray
from pointsman_scheduler.core.picking import Pick
from pointsman_scheduler.core.refusals import rejection_for
from pointsman_scheduler.core.scheduler import Decision, Refused
from pointsman_scheduler.core.scheduling_profile import ProfileRun, kept_mask

MAX_CANDIDATES = 64
"""More are left out; those chosen are always in."""

_UINT32 = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Seen:
    """The candidates that the receipt shows, as they were at the decision."""

    rows: IntArray
    endpoints: Sequence[Endpoint]
    age_s: list[float]
    waiting: list[float]
    running: list[float]
    kv: list[float]
    requests: list[float]
    prefill_tokens: list[float]
    cached_blocks: list[int]


@dataclass(frozen=True, slots=True)
class ReceiptDraft:
    """All that the receipt needs, so that it can be written once the pick is answered."""

    pick: Pick
    size: int
    """Candidates that there were."""
    seen: Seen
    took_s: float


def draft_receipt(pick: Pick, took_s: float) -> ReceiptDraft:
    """To be called before the load is reserved, which changes what the columns say."""
    candidates = pick.candidates
    if candidates is None:
        nothing = Seen(np.arange(0), (), [], [], [], [], [], [], [])
        return ReceiptDraft(pick, 0, nothing, took_s)
    size = len(candidates)
    rows = shown_rows(size, pick.outcome)
    every = len(rows) == size
    endpoints = candidates.endpoints
    seen = Seen(
        rows,
        endpoints if every else [endpoints[row] for row in rows.tolist()],
        *(
            (column if every else column[rows]).tolist()
            for column in (
                candidates.age_s,
                candidates.waiting,
                candidates.running,
                candidates.kv,
                candidates.requests,
                candidates.prefill_tokens,
                candidates.cached_blocks,
            )
        ),
    )
    return ReceiptDraft(pick, size, seen, took_s)


def build_receipt(draft: ReceiptDraft, *, envelope: Envelope, decided_at: float) -> DecisionReceipt:
    """`decided_at` is in seconds since 1970."""
    pick = draft.pick
    receipt = DecisionReceipt(
        envelope=envelope,
        decision_id=pick.decision_id,
        lease_id=pick.lease_id,
        descriptor=pick.descriptor,
        seed=pick.seed,
        config_hash=pick.config_hash,
        state_publisher=pick.state_publisher,
        state_sequence=pick.state_sequence,
        state_age_ms=_milliseconds(pick.state_age_s),
        decided_at=decided_at,
        took_us=min(max(round(draft.took_s * 1e6), 0), _UINT32),
        reason=reason_in_words(pick),
    )
    # Hashes beyond those that were matched had no part in the decision, and may be very many.
    matched = len(pick.request.block_hashes) if pick.request else 0
    receipt.descriptor.prompt_block_hashes = pick.descriptor.prompt_block_hashes[: 8 * matched]
    if isinstance(pick.outcome, Decision):
        receipt.chosen.extend(picked_endpoints(pick.outcome.endpoints))
    else:
        receipt.rejection.CopyFrom(rejection_for(pick.outcome.refusal))
    receipt.candidates.extend(_candidate_views(draft))
    for run in pick.outcome.runs.values():
        receipt.plugins.extend(_traces(run, draft.size, draft.seen.rows))
    return receipt


def picked_endpoints(endpoints: Sequence[Endpoint]) -> list[PickedEndpoint]:
    return [PickedEndpoint(uid=one.uid, address=one.address) for one in endpoints]


def shown_rows(size: int, outcome: Decision | Refused) -> IntArray:
    """Rows of the candidates that the receipt shows, ascending."""
    if size <= MAX_CANDIDATES:
        return np.arange(size)
    chosen = [row for run in outcome.runs.values() for row in run.picked][:MAX_CANDIDATES]
    taken = set(chosen)
    others = (row for row in range(size) if row not in taken)
    taken.update(islice(others, MAX_CANDIDATES - len(taken)))
    return np.array(sorted(taken), dtype=np.int64)


def reason_in_words(pick: Pick) -> str:
    """One sentence or two, for people."""
    if isinstance(pick.outcome, Refused):
        return rejection_for(pick.outcome.refusal).message
    decision = pick.outcome
    run = decision.runs[decision.profile]
    primary, left = decision.endpoints[0], len(run.rows)
    local = int(np.searchsorted(run.rows, decision.row))
    best = float(run.totals[local])
    ties = int((run.totals == best).sum())
    words = [f"{primary.address} of {left} candidate{'s' * (left != 1)}"]
    if pick.candidates is not None and left < len(pick.candidates):
        words.append(f"({len(pick.candidates) - left} filtered out)")
    words.append(f"with a score of {best:.4g}" + (f", one of {ties} as good" if ties > 1 else ""))
    if pick.predicted_cost_s:
        words.append(
            f"and a predicted cost of {pick.predicted_cost_s:.4g} s, the first token after "
            f"{pick.predicted_ttft_s:.4g} s"
        )
    held = f"it likely holds {pick.cached_tokens} of {pick.descriptor.prompt_tokens} prompt tokens"
    return f"{' '.join(words)}; {held}"


def _candidate_views(draft: ReceiptDraft) -> list[CandidateView]:
    seen, totals, outcome = draft.seen, np.zeros(draft.size), draft.pick.outcome
    if isinstance(outcome, Decision):
        run = outcome.runs[outcome.profile]
        totals[run.rows] = run.totals
    columns = zip(
        seen.endpoints,
        seen.age_s,
        seen.waiting,
        seen.running,
        seen.kv,
        seen.requests,
        seen.prefill_tokens,
        seen.cached_blocks,
        totals[seen.rows].tolist(),
        strict=True,
    )
    return [
        CandidateView(
            uid=endpoint.uid,
            address=endpoint.address,
            metrics_age_ms=_milliseconds(age_s),
            waiting_requests=_count(waiting),
            running_requests=_count(running),
            kv_cache_utilization=0.0 if isnan(kv) else kv,
            in_flight_requests=_count(requests),
            in_flight_tokens=_count(tokens),
            cached_blocks=cached,
            total_score=total,
        )
        for endpoint, age_s, waiting, running, kv, requests, tokens, cached, total in columns
    ]


def _traces(run: ProfileRun, size: int, shown: IntArray) -> list[PluginTrace]:
    traces = [
        PluginTrace(
            profile=run.profile,
            plugin=step.name,
            type=step.type,
            kept=kept_mask(step.rows, size)[shown].tolist(),
        )
        for step in run.filters
    ]
    for step in run.scores:
        scores = np.zeros(size)
        scores[run.rows] = step.scores
        traces.append(
            PluginTrace(
                profile=run.profile,
                plugin=step.name,
                type=step.type,
                weight=step.weight,
                scores=scores[shown].tolist(),
            )
        )
    return traces


def _milliseconds(seconds: float) -> int:
    return _UINT32 if seconds * 1e3 >= _UINT32 else round(seconds * 1e3)


def _count(value: float) -> int:
    return 0 if isnan(value) else int(value)
