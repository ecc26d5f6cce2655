"""The receipt of a pick: what was seen, scored and chosen, to explain and to replay it."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from pointsman_common.contracts.layer_pb2 import Envelope
from pointsman_common.contracts.scheduling_pb2 import (
    DecisionReceipt,
    PluginTrace,
)
from pointsman_scheduler.core.arrays import FloatArray, IntArray
from pointsman_scheduler.core.candidates import (
    KV,
    PREFILL_TOKENS,
    READ_AT,
    REQUESTS,
    RUNNING,
    WAITING,
    Candidates,
)
from pointsman_scheduler.core.picking import Pick
from pointsman_scheduler.core.refusals import rejection_for
from pointsman_scheduler.core.scheduler import Decision, Refused
from pointsman_scheduler.core.scheduling_profile import ProfileRun, every_row, kept_mask

MAX_CANDIDATES = 64
"""More are left out; those chosen are always in."""

_UINT32 = 0xFFFF_FFFF

_Rows: TypeAlias = IntArray | slice
_EVERY = slice(None)


@dataclass(slots=True)
class ReceiptDraft:
    """All that the receipt needs, so that it can be written once the pick is answered."""

    pick: Pick
    shown: _Rows
    """Which candidates the receipt shows, in their order."""
    columns: FloatArray
    """Theirs, as they were at the decision."""
    took_s: float


def draft_receipt(pick: Pick, took_s: float) -> ReceiptDraft:
    """To be called before the load is reserved, which changes what the columns say."""
    if pick.candidates is None:
        return ReceiptDraft(pick, _EVERY, np.zeros(0), took_s)
    columns = pick.candidates.columns
    if len(pick.candidates) <= MAX_CANDIDATES:
        return ReceiptDraft(pick, _EVERY, columns.copy(), took_s)
    rows = shown_rows(pick.outcome)
    return ReceiptDraft(pick, rows, columns[:, rows], took_s)


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
    told = 8 * len(pick.request.block_hashes) if pick.request else 0
    if len(pick.descriptor.prompt_block_hashes) > told:
        receipt.descriptor.prompt_block_hashes = pick.descriptor.prompt_block_hashes[:told]
    if isinstance(pick.outcome, Decision):
        for endpoint in pick.outcome.endpoints:
            receipt.chosen.add(uid=endpoint.uid, address=endpoint.address)
    else:
        receipt.rejection.CopyFrom(rejection_for(pick.outcome.refusal))
    if pick.candidates is not None:
        _show_candidates(receipt, draft, pick.candidates)
        for run in pick.outcome.runs.values():
            receipt.plugins.extend(_traces(run, len(pick.candidates), draft.shown))
    return receipt


def shown_rows(outcome: Decision | Refused) -> IntArray:
    """Of more candidates than are shown, those that are: the chosen ones and the first, up to
    MAX_CANDIDATES; fewer where the first are chosen."""
    chosen = [row for run in outcome.runs.values() for row in run.picked][:MAX_CANDIDATES]
    first = MAX_CANDIDATES - len(chosen)
    beyond = sorted({row for row in chosen if row >= first})
    return np.concatenate((every_row(first), np.array(beyond, dtype=np.int64)))


def reason_in_words(pick: Pick) -> str:
    """One sentence or two, for people."""
    if isinstance(pick.outcome, Refused):
        return rejection_for(pick.outcome.refusal).message
    decision = pick.outcome
    run = decision.runs[decision.profile]
    primary, left = decision.endpoints[0], len(run.rows)
    best = float(run.totals[run.best])
    ties = int(np.count_nonzero(run.totals == best))
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


def _show_candidates(receipt: DecisionReceipt, draft: ReceiptDraft, candidates: Candidates) -> None:
    outcome, shown = draft.pick.outcome, draft.shown
    endpoints, totals = candidates.endpoints, np.zeros(len(candidates))
    if not isinstance(shown, slice):
        endpoints = tuple(endpoints[row] for row in shown)
    if isinstance(outcome, Decision):
        run = outcome.runs[outcome.profile]
        totals = _spread(run.totals, run.rows, len(candidates))
    told = np.fmax(draft.columns, 0.0)  # unknown is told as 0
    ages_ms = np.fmax((candidates.now - draft.columns[READ_AT]) * 1e3, 0.0)
    told[READ_AT] = np.rint(np.minimum(ages_ms, _UINT32))
    counts = told.astype(np.int64).tolist()
    columns = zip(
        endpoints,
        counts[READ_AT],
        counts[WAITING],
        counts[RUNNING],
        told[KV].tolist(),
        counts[REQUESTS],
        counts[PREFILL_TOKENS],
        candidates.cached_blocks[shown].astype(np.int64).tolist(),
        totals[shown].tolist(),
        strict=True,
    )
    for endpoint, age_ms, waiting, running, kv, requests, tokens, cached, total in columns:
        receipt.candidates.add(
            uid=endpoint.uid,
            address=endpoint.address,
            metrics_age_ms=age_ms,
            waiting_requests=waiting,
            running_requests=running,
            kv_cache_utilization=kv,
            in_flight_requests=requests,
            in_flight_tokens=tokens,
            cached_blocks=cached,
            total_score=total,
        )


def _traces(run: ProfileRun, size: int, shown: _Rows) -> list[PluginTrace]:
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
        trace = PluginTrace(
            profile=run.profile,
            plugin=step.name,
            type=step.type,
            weight=step.weight,
            scores=_spread(step.scores, run.rows, size)[shown].tolist(),
        )
        if step.prediction is not None:
            trace.costs_s.extend(_spread(step.prediction.cost_s, run.rows, size)[shown].tolist())
        traces.append(trace)
    return traces


def _spread(values: FloatArray, rows: IntArray, size: int) -> FloatArray:
    """Values of some rows over all, 0 elsewhere."""
    if len(rows) == size:
        return values
    spread = np.zeros(size)
    spread[rows] = values
    return spread


def _milliseconds(seconds: float) -> int:
    return _UINT32 if seconds * 1e3 >= _UINT32 else round(seconds * 1e3)
