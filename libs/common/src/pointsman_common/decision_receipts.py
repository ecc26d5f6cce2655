"""Reading receipts: several to a message, what they share told apart, their inputs packed.

A scheduler tells a large candidate set and the text of its configuration now and again only, so a
reader keeps them by their hashes.
"""

import math
import struct
from collections import OrderedDict
from collections.abc import Sequence

from pointsman_common.contracts.scheduling_pb2 import CandidateSet, CandidateView, DecisionReceipt

_UINT32 = 0xFFFF_FFFF
_LETTERS = {"d": ("d", 8), "I": ("I", 4), "H": ("H", 2), "c": ("d", 8)}
_NUMBERS = {
    "waiting_requests": "waiting_requests",
    "running_requests": "running_requests",
    "in_flight_requests": "in_flight_requests",
    "prefill_tokens": "in_flight_tokens",
    "cached_blocks": "cached_blocks",
}
"""Columns that a view tells as they are, and the view's name for them."""


def unfold_receipts(payload: bytes) -> list[DecisionReceipt]:
    """The receipts of one bus message, oldest first, each by itself.

    Raises:
        DecodeError: it is no receipt.
    """
    first = DecisionReceipt.FromString(payload)
    others = list(first.further)
    first.ClearField("further")
    for receipt in others:
        receipt.ClearField("further")
    return [first, *others]


class SharedParts:
    """Candidate sets and configurations by hash; the longest unseen go first, by number and by
    bytes."""

    def __init__(self, *, capacity: int = 1000, capacity_bytes: int = 32 << 20) -> None:
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._sets: OrderedDict[str, tuple[CandidateSet, int]] = OrderedDict()
        self._configs: OrderedDict[str, str] = OrderedDict()
        self._bytes = 0

    def keep(self, receipt: DecisionReceipt) -> None:
        """Take over what a receipt tells, and note what it names."""
        if receipt.HasField("candidate_set"):
            self._keep_set(receipt.candidate_set)
        elif receipt.inputs.candidate_set in self._sets:
            self._sets.move_to_end(receipt.inputs.candidate_set)
        if receipt.endpoint_picker_config and receipt.config_hash not in self._configs:
            self._configs[receipt.config_hash] = receipt.endpoint_picker_config
            self._bytes += len(receipt.endpoint_picker_config)
        elif receipt.config_hash in self._configs:
            self._configs.move_to_end(receipt.config_hash)
        self._trim()

    def candidate_set(self, receipt: DecisionReceipt) -> CandidateSet | None:
        """The set that a receipt is about; `None`: it was never heard of, or is forgotten."""
        if receipt.HasField("candidate_set"):
            return receipt.candidate_set
        known = self._sets.get(receipt.inputs.candidate_set)
        return None if known is None else known[0]

    def config(self, config_hash: str) -> str | None:
        return self._configs.get(config_hash)

    def complete(
        self, receipt: DecisionReceipt, *, most_bytes: int | None = None
    ) -> DecisionReceipt:
        """A copy with everything in it that is known: it can be read and replayed by itself.

        A candidate set of more than `most_bytes` is left out of it.
        """
        whole = DecisionReceipt()
        whole.CopyFrom(receipt)
        candidate_set = self.candidate_set(receipt)
        if candidate_set is not None and (
            most_bytes is None or candidate_set.ByteSize() <= most_bytes
        ):
            whole.candidate_set.CopyFrom(candidate_set)
        whole.endpoint_picker_config = (
            receipt.endpoint_picker_config or self._configs.get(receipt.config_hash) or ""
        )
        return whole

    def _keep_set(self, told: CandidateSet) -> None:
        if told.hash in self._sets:
            self._sets.move_to_end(told.hash)
            return
        size = told.ByteSize()
        kept = CandidateSet()
        kept.CopyFrom(told)  # the receipt goes, and with it all that it holds
        self._sets[told.hash] = (kept, size)
        self._bytes += size

    def _trim(self) -> None:
        while len(self._sets) > 1 and (
            len(self._sets) > self._capacity or self._bytes > self._capacity_bytes
        ):
            self._bytes -= self._sets.popitem(last=False)[1][1]
        while len(self._configs) > 1 and (
            len(self._configs) > self._capacity or self._bytes > self._capacity_bytes
        ):
            self._bytes -= len(self._configs.popitem(last=False)[1])


def shown_candidates(receipt: DecisionReceipt, candidate_set: CandidateSet) -> list[CandidateView]:
    """The candidates that the receipt's plugins tell of, as a person wants to see them.

    Unknown numbers are told as 0. Raises ValueError when the inputs are damaged.
    """
    if receipt.candidates:
        return list(receipt.candidates)
    inputs, size = receipt.inputs, len(candidate_set.endpoints)
    columns = dict(
        zip(
            candidate_set.columns,
            unpack_columns(inputs.encoding, inputs.columns, len(candidate_set.columns), size),
            strict=True,
        )
    )
    rows = unpack_rows(inputs.shown, size)
    totals = _totals(receipt, len(rows))
    views: list[CandidateView] = []
    for row, total in zip(rows, totals, strict=True):
        endpoint = candidate_set.endpoints[row]
        view = CandidateView(uid=endpoint.uid, address=endpoint.address, total_score=total)
        for column, name in _NUMBERS.items():
            if column in columns:
                setattr(view, name, _count(columns[column][row]))
        if "kv_cache_utilization" in columns:
            kv = columns["kv_cache_utilization"][row]
            view.kv_cache_utilization = 0.0 if math.isnan(kv) else kv
        if "read_at_s" in columns:
            view.metrics_age_ms = _count((inputs.now_s - columns["read_at_s"][row]) * 1e3)
        views.append(view)
    return views


def unpack_columns(encoding: str, packed: bytes, columns: int, size: int) -> list[Sequence[float]]:
    """DecisionInputs.columns as lists of `size` numbers.

    Raises:
        ValueError: the bytes are not of that encoding and size.
    """
    letters = encoding or "d" * columns
    if len(letters) != columns or set(letters) - _LETTERS.keys():
        raise ValueError(f"encoding {encoding!r} is none of {columns} columns")
    found: list[Sequence[float]] = []
    at = 0
    for letter in letters:
        kind, width = _LETTERS[letter]
        count = min(size, 1) if letter == "c" else size
        if at + count * width > len(packed):
            raise ValueError(f"{len(packed)} bytes of columns are too few")
        values = struct.unpack_from(f"<{count}{kind}", packed, at)
        found.append(values * size if letter == "c" else values)
        at += count * width
    if at != len(packed):
        raise ValueError(f"{len(packed)} bytes of columns are too many")
    return found


def unpack_rows(shown: bytes, size: int) -> Sequence[int]:
    """DecisionInputs.shown: rows below `size`; all of them when empty. Raises ValueError."""
    if not shown:
        return range(size)
    if len(shown) % 4:
        raise ValueError(f"{len(shown)} bytes are no rows")
    rows = struct.unpack(f"<{len(shown) // 4}I", shown)
    if max(rows) >= size:
        raise ValueError(f"row {max(rows)} of {size} candidates")
    return rows


def _totals(receipt: DecisionReceipt, shown: int) -> list[float]:
    """Weighted sums of the profile that chose the primary endpoint, 0 where it was filtered out."""
    totals = [0.0] * shown
    for trace in receipt.plugins:
        if trace.profile == receipt.profile and len(trace.scores) == shown:
            totals = [
                total + trace.weight * score
                for total, score in zip(totals, trace.scores, strict=True)
            ]
    return totals


def _count(value: float) -> int:
    """Not known, or never: 0 or as much as there is room for."""
    return 0 if math.isnan(value) else round(min(max(value, 0.0), _UINT32))
