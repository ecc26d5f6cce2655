"""Makes a decision again from its receipt: by the same configuration, which must find the same
endpoints, or by another, which says what that would have done."""

from collections.abc import Mapping
from dataclasses import dataclass

from pointsman_common.contracts.scheduling_pb2 import CandidateSet, DecisionReceipt
from pointsman_common.decision_receipts import unpack_rows
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.config import SchedulingConfig
from pointsman_scheduler.core.decision_inputs import InputsError, unpack_candidates
from pointsman_scheduler.core.refusals import rejection_for
from pointsman_scheduler.core.scheduler import Decision, Refusal, Refused
from pointsman_scheduler.core.scheduling_profile import every_row, kept_mask
from pointsman_scheduler.core.scheduling_request import SchedulingRequest, request_of


@dataclass(frozen=True, slots=True)
class Replayed:
    """A decision made again. `request` and `candidates` are what it was made from."""

    outcome: Decision | Refused
    request: SchedulingRequest
    candidates: Candidates


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that came out otherwise than the receipt says."""

    what: str
    told: str
    found: str


def replay(
    receipt: DecisionReceipt, candidate_set: CandidateSet, config: SchedulingConfig
) -> Replayed:
    """`config` is compiled for this call alone: what its plugins remember is overwritten.

    Raises:
        InputsError: the receipt does not hold what is needed, or is damaged.
    """
    if not receipt.HasField("inputs"):
        raise InputsError("the receipt holds no inputs")
    inputs, limits = receipt.inputs, config.prefix
    request = request_of(
        receipt.descriptor,
        max_blocks=limits.max_prefix_blocks_to_match or None,
        max_tokens=limits.max_prefix_tokens_to_match or None,
        mean_output_tokens=(
            inputs.mean_output_tokens if inputs.HasField("mean_output_tokens") else None
        ),
        seed=receipt.seed,
    )
    candidates = unpack_candidates(inputs, candidate_set)
    if not len(candidates):
        refusal = Refusal.NOT_CACHED if request.cached_only else Refusal.NO_ENDPOINTS
        if receipt.rejection == rejection_for(Refusal.NO_ENDPOINTS):
            refusal = Refusal.NO_ENDPOINTS
        return Replayed(Refused(refusal), request, candidates)
    scheduler = config.scheduler
    for name, plugin in scheduler.remembering.items():
        try:
            plugin.recall(inputs.memories.get(name, b""), request, candidates)
        except ValueError as error:
            raise InputsError(f"what {name!r} remembered cannot be read: {error}") from error
    return Replayed(scheduler.schedule(request, candidates), request, candidates)


def differences(receipt: DecisionReceipt, replayed: Replayed) -> list[Difference]:
    """What came out otherwise, to the last bit: endpoints, refusal, filters, scores and costs.

    Only what the receipt tells is compared; empty for a faithful replay.
    """
    outcome = replayed.outcome
    found: list[Difference] = []

    def compare(what: str, told: object, now: object) -> None:
        if told != now:
            found.append(Difference(what, str(told), str(now)))

    told_chosen = [one.address for one in receipt.chosen]
    chosen = [one.address for one in outcome.endpoints] if isinstance(outcome, Decision) else []
    compare("chosen", told_chosen, chosen)
    prefill = outcome.prefill if isinstance(outcome, Decision) else None
    compare("prefill", receipt.prefill.address, prefill.address if prefill else "")
    refused = rejection_for(outcome.refusal).message if isinstance(outcome, Refused) else ""
    compare("refusal", receipt.rejection.message, refused)
    told_steps = {(one.profile, one.plugin, bool(one.kept)): one for one in receipt.plugins}
    shown = list(unpack_rows(receipt.inputs.shown, len(replayed.candidates)))
    steps = _steps(replayed, shown)
    for key in told_steps.keys() | steps.keys():
        what = f"{key[0]}/{key[1]}"
        if key not in told_steps or key not in steps:
            compare(what, _ran(key in told_steps), _ran(key in steps))
            continue
        told = told_steps[key]
        told_values = list(told.kept) if told.kept else [*told.scores, *told.costs_s]
        compare(what, told_values, steps[key])
    return sorted(found, key=lambda one: one.what)


def _ran(there: bool) -> str:
    return "ran" if there else "did not run"


def _steps(replayed: Replayed, shown: list[int]) -> Mapping[tuple[str, str, bool], list[float]]:
    """What each plugin did, by profile, name and whether it filtered, over the candidates that a
    receipt shows."""
    size, steps = len(replayed.candidates), dict[tuple[str, str, bool], list[float]]()
    for run in replayed.outcome.runs.values():
        for step in run.filters:
            kept = kept_mask(step.rows, size)
            steps[run.profile, step.name, True] = kept[shown].tolist()
        for scored in run.scores:
            at = dict(zip(run.rows.tolist(), every_row(len(run.rows)).tolist(), strict=True))
            columns = [scored.scores]
            if scored.prediction is not None:
                columns.append(scored.prediction.cost_s)
            steps[run.profile, scored.name, False] = [
                float(values[at[row]]) if row in at else 0.0 for values in columns for row in shown
            ]
    return steps
