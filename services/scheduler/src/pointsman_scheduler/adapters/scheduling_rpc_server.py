"""Serves scheduling.v1: reads the question, has it decided, writes the answer.

Benchmark: tests/load/bench_pick.py.
"""

from collections.abc import Mapping

from google.protobuf.message import DecodeError

from pointsman_common.clock import Clock
from pointsman_common.contract_codec import decode_endpoints
from pointsman_common.contracts.layer_pb2 import HeaderMutation, HeaderValue
from pointsman_common.contracts.scheduling_pb2 import PickRequest, PickResponse
from pointsman_common.errors import BadRequestError
from pointsman_scheduler.adapters.receipt_publisher import ReceiptPublisher
from pointsman_scheduler.core.decision_receipt import draft_receipt
from pointsman_scheduler.core.picking import Pick, Picking
from pointsman_scheduler.core.refusals import rejection_for
from pointsman_scheduler.core.scheduler import Decision
from pointsman_scheduler.core.scheduling_profile import totals_by_address
from pointsman_scheduler.metrics import Metrics

PICK = "/pointsman.scheduling.v1.Scheduler/Pick"

# What only the scheduler may set: the sidecar of a model server would follow a client's own.
HEADERS_OF_OURS = ("x-prefiller-host-port", "x-encoder-hosts-ports", "x-data-parallel-host-port")


class SchedulingHook:
    """Call it with the bytes of a PickRequest; it returns those of a PickResponse.

    Raises:
        BadRequestError: the bytes are no PickRequest.
    """

    def __init__(
        self, clock: Clock, picking: Picking, receipts: ReceiptPublisher, metrics: Metrics
    ) -> None:
        self._clock, self._picking = clock, picking
        self._receipts, self._metrics = receipts, metrics

    def __call__(self, payload: bytes) -> bytes:
        began = self._clock.monotonic()
        try:
            question = PickRequest.FromString(payload)
        except DecodeError as error:
            raise BadRequestError("not a PickRequest") from error
        pick = self._picking.pick(
            question.descriptor,
            question.lease_id,
            began,
            given=decode_endpoints(question.candidates, began) if question.candidates else (),
        )
        took_s = self._clock.monotonic() - began
        receipt_wanted = self._receipts.wants(pick)
        if receipt_wanted:
            self._receipts.offer(draft_receipt(pick, took_s))
        self._picking.reserve(pick, began)
        self._count(pick, took_s)
        return answer(pick, scores=question.want_scores, receipt=receipt_wanted)

    def _count(self, pick: Pick, took_s: float) -> None:
        metrics, model = self._metrics, pick.descriptor.target_model
        metrics.duration.observe(took_s)
        if not isinstance(pick.outcome, Decision):
            metrics.attempt("failure", model, None)
            return
        metrics.attempt("success", model, pick.outcome.endpoints[0])
        if pick.request is not None and pick.request.block_hashes:
            metrics.hit_ratio.observe(pick.cached_blocks / len(pick.request.block_hashes))


def answer(pick: Pick, *, scores: bool, receipt: bool) -> bytes:
    """A PickResponse. With `receipt` it names the decision, of which a receipt is published."""
    outcome, answer = pick.outcome, PickResponse()
    if not isinstance(outcome, Decision):
        answer.rejection.CopyFrom(rejection_for(outcome.refusal))
        return answer.SerializeToString()
    picked = answer.picked
    for endpoint in outcome.endpoints:
        picked.endpoints.add(uid=endpoint.uid, address=endpoint.address)
    if outcome.prefill is not None:
        picked.prefill.uid, picked.prefill.address = outcome.prefill.uid, outcome.prefill.address
    picked.headers.CopyFrom(_mutation(outcome.headers) if outcome.headers else _NOTHING_SET)
    if outcome.response_headers:
        picked.response_headers.set.extend(_header_values(outcome.response_headers))
    if receipt:
        picked.decision_id = pick.decision_id
    picked.cached_tokens = pick.cached_tokens
    picked.prefill_tokens = pick.prefill_tokens
    picked.expected_output_tokens = pick.expected_output_tokens
    picked.predicted_ttft_s = pick.predicted_ttft_s
    picked.profile = outcome.profile
    if scores and pick.candidates is not None:
        picked.scores.update(totals_by_address(outcome.runs[outcome.profile], pick.candidates))
    return answer.SerializeToString()


def _mutation(headers: Mapping[str, str]) -> HeaderMutation:
    return HeaderMutation(
        set=_header_values(headers),
        remove=[name for name in HEADERS_OF_OURS if name not in headers],
    )


def _header_values(headers: Mapping[str, str]) -> list[HeaderValue]:
    return [HeaderValue(key=key, value=value.encode()) for key, value in headers.items()]


_NOTHING_SET = _mutation({})
