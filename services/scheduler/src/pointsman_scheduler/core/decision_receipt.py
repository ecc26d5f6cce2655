"""The receipt of a pick: what was seen, scored and chosen, to explain and to replay it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from pointsman_common.contracts.layer_pb2 import Envelope
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt, PickedEndpoint
from pointsman_scheduler.core.arrays import FloatArray, IntArray
from pointsman_scheduler.core.decision_inputs import LoraPacker, SeenCandidates, pack_inputs
from pointsman_scheduler.core.picking import Pick
from pointsman_scheduler.core.refusals import rejection_for
from pointsman_scheduler.core.scheduler import Decision, Refused
from pointsman_scheduler.core.scheduling_profile import ProfileRun, every_row, kept_mask

MAX_TRACED = 64
"""Candidates whose scores are told; of more, those chosen are always among them. What all of them
were seen to be is told in any case."""

_UINT32 = 0xFFFF_FFFF

_Rows: TypeAlias = IntArray | slice
_EVERY = slice(None)


@dataclass(slots=True)
class ReceiptDraft:
    """All that the receipt needs, so that it can be written once the pick is answered."""

    pick: Pick
    seen: SeenCandidates | None
    """`None`: the pool is not known."""
    took_s: float


def draft_receipt(pick: Pick, took_s: float) -> ReceiptDraft:
    """To be called before the load is reserved, which changes what the columns say."""
    candidates = pick.candidates
    seen = None if candidates is None else SeenCandidates(candidates, candidates.columns.copy())
    return ReceiptDraft(pick, seen, took_s)


def build_receipt(
    draft: ReceiptDraft,
    loras: LoraPacker,
    *,
    envelope: Envelope | None,
    decided_at: float,
    candidate_set: str,
) -> DecisionReceipt:
    """`decided_at` is in seconds since 1970. `candidate_set` is the hash of the candidates' set."""
    pick, seen = draft.pick, draft.seen
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
        receipt.profile = pick.outcome.profile
        prefill = pick.outcome.prefill
        if prefill is not None:
            receipt.prefill.CopyFrom(_picked_endpoint(prefill.uid, prefill.address))
        receipt.chosen.extend(
            [_picked_endpoint(one.uid, one.address) for one in pick.outcome.endpoints]
        )
    else:
        receipt.rejection.CopyFrom(rejection_for(pick.outcome.refusal))
    if seen is not None and pick.request is not None:
        request = pick.request
        one_name = request.lora in ("", request.model)
        pack_inputs(
            receipt.inputs,
            seen,
            loras,
            candidate_set=candidate_set,
            adapters=(request.model,) if one_name else (request.model, request.lora),
            mean_output_tokens=request.mean_output_tokens,
            memories=pick.memories,
        )
        size = len(seen.candidates)
        rows: _Rows = _EVERY
        if size > MAX_TRACED:
            rows = shown = shown_rows(pick.outcome)
            receipt.inputs.shown = shown.astype("<u4").tobytes()
        for run in pick.outcome.runs.values():
            _add_traces(receipt, run, size, rows)
    return receipt


def shown_rows(outcome: Decision | Refused) -> IntArray:
    """Of more candidates than are shown, those that are: the chosen ones and the first, up to
    MAX_TRACED; fewer where the first are chosen."""
    chosen = [row for run in outcome.runs.values() for row in run.picked][:MAX_TRACED]
    first = MAX_TRACED - len(chosen)
    beyond = sorted({row for row in chosen if row >= first})
    return np.concatenate((every_row(first), np.array(beyond, dtype=np.int64)))


def reason_in_words(pick: Pick) -> str:
    """One sentence or two, for people."""
    if isinstance(pick.outcome, Refused):
        return rejection_for(pick.outcome.refusal).message
    decision = pick.outcome
    run = decision.runs[decision.profile]
    primary, left = decision.endpoints[0], len(run.rows)
    totals = run.totals.tolist()
    best = totals[run.best]
    ties = totals.count(best)
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


def _add_traces(receipt: DecisionReceipt, run: ProfileRun, size: int, shown: _Rows) -> None:
    for step in run.filters:
        receipt.plugins.add(
            profile=run.profile,
            plugin=step.name,
            type=step.type,
            kept=kept_mask(step.rows, size)[shown].tolist(),
        )
    for scored in run.scores:
        prediction = scored.prediction
        receipt.plugins.add(
            profile=run.profile,
            plugin=scored.name,
            type=scored.type,
            weight=scored.weight,
            scores=_spread(scored.scores, run.rows, size)[shown].tolist(),
            costs_s=()
            if prediction is None
            else _spread(prediction.cost_s, run.rows, size)[shown].tolist(),
        )


def _spread(values: FloatArray, rows: IntArray, size: int) -> FloatArray:
    """Values of some rows over all, 0 elsewhere."""
    if len(rows) == size:
        return values
    spread = np.zeros(size)
    spread[rows] = values
    return spread


@lru_cache(maxsize=4096)
def _picked_endpoint(uid: str, address: str) -> PickedEndpoint:
    return PickedEndpoint(uid=uid, address=address)


def _milliseconds(seconds: float) -> int:
    return _UINT32 if seconds * 1e3 >= _UINT32 else round(seconds * 1e3)
