"""The last decisions, each with how its request ended, to be looked up by their ids."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from pointsman_common.contracts.events_pb2 import RequestFinished
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt
from pointsman_common.decision_receipts import SharedParts, shown_candidates

STORED_SET_BYTES = 8192
"""A larger candidate set is not written into the history with every receipt that is about it."""


@dataclass(slots=True)
class Decision:
    receipt: DecisionReceipt
    size_bytes: int
    finished: RequestFinished | None = None
    """How the request ended; `None` while it has not, or was not heard."""
    candidates: int = 0
    """How many there were; 0: none, or not known."""

    @property
    def pool(self) -> str:
        return self.receipt.descriptor.pool


class DecisionLog:
    """Bounded by number and by bytes: a receipt over a thousand endpoints is large."""

    def __init__(self, *, capacity: int = 1000, capacity_bytes: int = 64 << 20) -> None:
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._decisions: OrderedDict[str, Decision] = OrderedDict()
        self._bytes = 0
        self._by_request: dict[str, str] = {}
        self._by_lease: dict[str, str] = {}
        self._shared = SharedParts()

    def __len__(self) -> int:
        return len(self._decisions)

    def add(self, receipt: DecisionReceipt, size_bytes: int) -> None:
        """Keep a receipt; one with a known decision id takes the place of the first.

        What it tells for others too is kept apart from it, once.
        """
        if receipt.decision_id in self._decisions:
            self._drop(receipt.decision_id)
        self._shared.keep(receipt)
        told = self._shared.candidate_set(receipt)
        count = len(receipt.candidates) if told is None else len(told.endpoints)
        receipt.ClearField("candidate_set")
        receipt.ClearField("endpoint_picker_config")
        self._decisions[receipt.decision_id] = Decision(receipt, size_bytes, candidates=count)
        self._bytes += size_bytes
        self._by_request[receipt.descriptor.request_id] = receipt.decision_id
        self._by_lease[receipt.lease_id] = receipt.decision_id
        while len(self._decisions) > self._capacity or (
            self._bytes > self._capacity_bytes and len(self._decisions) > 1
        ):
            self._drop(next(iter(self._decisions)))

    def finish(self, event: RequestFinished) -> Decision | None:
        """Note how a request ended; returns its decision when that is known."""
        decision = self._decisions.get(self._by_lease.get(event.lease_id, ""))
        if decision is not None:
            decision.finished = event
        return decision

    def find(self, pool: str, key: str) -> Decision | None:
        """By decision id, or by request id (then the latest decision for it)."""
        decision = self._decisions.get(key) or self._decisions.get(self._by_request.get(key, ""))
        return decision if decision is not None and decision.pool == pool else None

    def stored_form(self, receipt: DecisionReceipt) -> bytes:
        """A receipt with what it shares with others, unless that is large."""
        return self._shared.complete(receipt, most_bytes=STORED_SET_BYTES).SerializeToString()

    def completed(self, decision: Decision) -> Decision:
        """With all that is known of it, for people: its candidates are listed."""
        receipt = self._shared.complete(decision.receipt)
        if not receipt.candidates and receipt.HasField("candidate_set"):
            try:
                receipt.candidates.extend(shown_candidates(receipt, receipt.candidate_set))
            except ValueError:
                receipt.ClearField("candidates")  # a foreign scheduler's, and damaged
        return Decision(receipt, decision.size_bytes, decision.finished, len(receipt.candidates))

    def recent(self, pool: str, limit: int) -> Iterator[Decision]:
        """The latest decisions of a pool, newest first."""
        count = 0
        for decision in reversed(self._decisions.values()):
            if count == limit:
                return
            if decision.pool == pool:
                count += 1
                yield decision

    def _drop(self, decision_id: str) -> None:
        decision = self._decisions.pop(decision_id)
        self._bytes -= decision.size_bytes
        for index, key in (
            (self._by_request, decision.receipt.descriptor.request_id),
            (self._by_lease, decision.receipt.lease_id),
        ):
            if index.get(key) == decision_id:
                del index[key]
