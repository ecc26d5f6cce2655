"""Receipts as bus messages: several to a message, what they share told once.

    message = receipt [candidate set] [configuration] { further: receipt [candidate set] … }

A small candidate set is told in each message that needs it; a large one, and a configuration, when
it is new and again every `tell_again_s`, for those who started later.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from pointsman_common.contracts.layer_pb2 import Envelope
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt
from pointsman_scheduler.core.candidate_sets import CandidateSets
from pointsman_scheduler.core.decision_inputs import LoraPacker
from pointsman_scheduler.core.decision_receipt import ReceiptDraft, build_receipt

SMALL_SET_BYTES = 4096
TOLD_KEPT = 256

_LENGTH_DELIMITED = 2
_CANDIDATE_SET = DecisionReceipt.CANDIDATE_SET_FIELD_NUMBER
_FURTHER = DecisionReceipt.FURTHER_FIELD_NUMBER


@dataclass(frozen=True, slots=True)
class DatedDraft:
    draft: ReceiptDraft
    decided_at: float
    """Seconds since 1970."""


class ReceiptMessages:
    """Writes the messages of one pool."""

    def __init__(self, sets: CandidateSets, *, tell_again_s: float = 10.0) -> None:
        self._sets, self._tell_again_s = sets, tell_again_s
        self._loras = LoraPacker()
        self._told: OrderedDict[str, float] = OrderedDict()
        """When each large set and each configuration was told, by hash."""

    def write(self, drafts: Sequence[DatedDraft], *, envelope: Envelope, now: float) -> bytes:
        """One message of at least one draft. `now` is in monotonic seconds."""
        here: set[str] = set()
        first, *others = (
            self._receipt(dated, envelope if not number else None, here, now)
            for number, dated in enumerate(drafts)
        )
        return b"".join((first, *(field(_FURTHER, receipt) for receipt in others)))

    def _receipt(
        self, dated: DatedDraft, envelope: Envelope | None, here: set[str], now: float
    ) -> bytes:
        """`here` holds the hashes told in this message already."""
        seen = dated.draft.seen
        written = self._sets.of(seen.candidates) if seen is not None else None
        receipt = build_receipt(
            dated.draft,
            self._loras,
            envelope=envelope,
            decided_at=dated.decided_at,
            candidate_set=written.hash if written is not None else "",
        )
        config = receipt.config_hash
        if config and config not in here:
            here.add(config)
            if self._is_due(config, now):
                receipt.endpoint_picker_config = dated.draft.pick.config_text
        told = receipt.SerializeToString()
        if written is not None and written.hash not in here:
            here.add(written.hash)
            if len(written.message) <= SMALL_SET_BYTES or self._is_due(written.hash, now):
                told += field(_CANDIDATE_SET, written.message)
        return told

    def _is_due(self, what: str, now: float) -> bool:
        told_at = self._told.get(what)
        if told_at is not None and now - told_at < self._tell_again_s:
            return False
        self._told[what] = now
        self._told.move_to_end(what)
        if len(self._told) > TOLD_KEPT:
            self._told.popitem(last=False)
        return True


def field(number: int, message: bytes) -> bytes:
    """A serialized message as the field of another, to be appended to it.

    Source: protobuf's encoding, "Length-Delimited Records".
    """
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(message)) + message


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
