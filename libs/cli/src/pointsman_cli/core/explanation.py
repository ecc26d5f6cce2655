"""A decision's receipt, told in words and as a table. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pointsman_common.contracts.events_pb2 import RequestFinished
from pointsman_common.contracts.scheduling_pb2 import CandidateView, DecisionReceipt, PluginTrace
from pointsman_common.decision_receipts import shown_candidates

MOST_ROWS = 16
"""Candidates in the table, unless all are asked for."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a decision."""

    receipt: DecisionReceipt
    finished: RequestFinished | None = None
    """How the request ended; `None`: it has not, or was not heard."""


@dataclass(frozen=True, slots=True)
class ReceiptTable:
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    chosen: int | None
    """Row of the primary endpoint."""
    left_out: int
    """Candidates beyond MOST_ROWS, or whose scores the receipt does not tell."""


def words(told: Told) -> list[str]:
    """Lines for a person: what was asked, what was decided and why, and what became of it."""
    receipt, asked = told.receipt, told.receipt.descriptor
    decided = datetime.fromtimestamp(receipt.decided_at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    model = asked.target_model or asked.model or "no model"
    if asked.model and asked.model != asked.target_model:
        model += f" (asked as {asked.model})"
    lines = [
        f"Request {asked.request_id or '(no id)'} of {asked.fairness_id or 'no flow'}: {model}, "
        f"{asked.prompt_tokens} prompt tokens, priority {asked.priority}, in {asked.pool}.",
        f"Decision {receipt.decision_id} at {decided} UTC, made in {receipt.took_us} µs.",
    ]
    if receipt.HasField("rejection"):
        refused = receipt.rejection
        lines.append(f"Refused with {refused.http_status}: {refused.message}.")
    elif receipt.chosen:
        first, *others = [one.address or one.uid for one in receipt.chosen]
        lines.append(f"It goes to {first}{_fallbacks(others)}.")
        if receipt.HasField("prefill"):
            lines.append(f"Its prompt is computed by {receipt.prefill.address} before.")
        if receipt.reason:
            lines.append(f"Why: {receipt.reason}.")
        lines.extend(_against_the_next(receipt))
    lines.append(
        f"Seen: state {receipt.state_sequence} of {receipt.state_publisher or 'nobody'}, "
        f"{_age(receipt.state_age_ms)} old; configuration {receipt.config_hash or 'unknown'}, "
        f"seed {receipt.seed}."
    )
    lines.append(_end(told.finished, receipt))
    return lines


def table_of(receipt: DecisionReceipt, *, every: bool = False) -> ReceiptTable:
    """The candidates with what was seen of them and what each plugin did, the best first.

    Raises:
        ValueError: the receipt is damaged.
    """
    views = shown_candidates(receipt, receipt.candidate_set)
    chosen = [one.uid or one.address for one in receipt.chosen]
    rank = {key: place for place, key in enumerate(chosen)}
    order = sorted(
        range(len(views)),
        key=lambda row: (rank.get(_key(views[row], chosen), len(rank)), -views[row].total_score),
    )
    shown = order if every else order[:MOST_ROWS]
    filters = [one for one in receipt.plugins if one.kept]
    scorers = [one for one in receipt.plugins if one.scores]
    several = len({one.profile for one in receipt.plugins}) > 1
    titles = ["endpoint", "waiting", "running", "KV", "in flight", "to prefill", "cached", "age"]
    titles.extend(_title(one, several) for one in filters)
    for one in scorers:
        titles.append(f"{_title(one, several)} ×{one.weight:g}")
        if one.costs_s:
            titles.append("seconds")
    rows: list[list[str]] = []
    for row in shown:
        view = views[row]
        cells = [
            view.address or view.uid,
            str(view.waiting_requests),
            str(view.running_requests),
            f"{view.kv_cache_utilization:.0%}",
            str(view.in_flight_requests),
            str(view.in_flight_tokens),
            str(view.cached_blocks),
            _age(view.metrics_age_ms),
        ]
        cells.extend(
            "kept" if row < len(one.kept) and one.kept[row] else "dropped" for one in filters
        )
        for one in scorers:
            cells.append(f"{one.scores[row]:.3f}" if row < len(one.scores) else "")
            if one.costs_s:
                cells.append(f"{one.costs_s[row]:.4g}" if row < len(one.costs_s) else "")
        rows.append([*cells, f"{view.total_score:.4g}"])
    total = max(len(receipt.candidate_set.endpoints), len(views))
    primary = (
        shown.index(order[0]) if chosen and order and _is_first(views[order[0]], receipt) else None
    )
    return ReceiptTable([*titles, "total"], rows, primary, total - len(rows))


def _key(view: CandidateView, chosen: Sequence[str]) -> str:
    return view.uid if view.uid in chosen else view.address


def _is_first(view: CandidateView, receipt: DecisionReceipt) -> bool:
    first = receipt.chosen[0]
    return view.uid == first.uid if first.uid else view.address == first.address


def _title(trace: PluginTrace, several: bool) -> str:
    return f"{trace.profile}/{trace.plugin}" if several else trace.plugin


def _fallbacks(others: Sequence[str]) -> str:
    return f", and if it fails to {', then '.join(others)}" if others else ""


def _against_the_next(receipt: DecisionReceipt) -> list[str]:
    """What spoke for the chosen endpoint and what against, compared with the next best."""
    try:
        views = shown_candidates(receipt, receipt.candidate_set)
    except ValueError:
        return []
    first = next((row for row, one in enumerate(views) if _is_first(one, receipt)), None)
    scorers = [
        one
        for one in receipt.plugins
        if one.profile == receipt.profile and len(one.scores) == len(views)
    ]
    others = [row for row in range(len(views)) if row != first]
    if first is None or not others or not scorers:
        return []
    best = max(others, key=lambda row: views[row].total_score)
    gap = views[first].total_score - views[best].total_score
    other = views[best].address or views[best].uid
    if len(scorers) == 1:
        [scorer] = scorers
        if scorer.costs_s and scorer.costs_s[best]:
            return [
                f"The next best, {other}, would have cost {scorer.costs_s[best]:.4g} s "
                f"instead of {scorer.costs_s[first]:.4g} s."
            ]
    parts = [
        f"{one.plugin} {one.weight * (one.scores[first] - one.scores[best]):+.3f}"
        for one in scorers
    ]
    if gap == 0:
        return [f"{other} was as good; the seed decided between them ({', '.join(parts)})."]
    return [f"Against {other}, by {gap:+.4g}: {', '.join(parts)}."]


def _age(milliseconds: int) -> str:
    if milliseconds >= 0xFFFF_FFFF:
        return "never read"
    return f"{milliseconds} ms" if milliseconds < 10_000 else f"{milliseconds / 1e3:.0f} s"


def _end(finished: RequestFinished | None, receipt: DecisionReceipt) -> str:
    if receipt.HasField("rejection"):
        return "It was sent nowhere."
    if finished is None:
        return "It has not ended yet, or its end was not heard."
    parts = [f"answered {finished.http_status}" if finished.http_status else "no answer"]
    if finished.HasField("ttft_ms"):
        parts.append(f"first token after {finished.ttft_ms} ms")
    parts.append(f"over after {finished.duration_ms} ms")
    if finished.HasField("output_tokens"):
        parts.append(f"{finished.output_tokens} output tokens")
    if finished.HasField("cached_tokens"):
        parts.append(f"{finished.cached_tokens} tokens were cached")
    served = finished.endpoint_address
    if served and receipt.chosen and served != receipt.chosen[0].address:
        parts.append(f"served by {served} instead")
    if finished.cause not in ("", "finished"):
        parts.append(finished.cause)
    return f"In the end: {', '.join(parts)}."
