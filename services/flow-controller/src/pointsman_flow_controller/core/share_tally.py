"""What this replica has to tell the others: the flows whose demand or service has changed."""

from dataclasses import dataclass

from pointsman_flow_controller.core.flow_queue import FlowQueue
from pointsman_flow_controller.core.share_board import FlowDemand, Key

IDLE_S = 60.0
"""A flow without requests and service for so long is told of no more; then it is taken up anew."""

MOST_FLOWS = 5_000
"""Told of. Others' demand is not known elsewhere; they are served from their replicas' shares."""


@dataclass(slots=True)
class _Told:
    """The flow's counters when it was taken up."""

    requests: int
    prompt_tokens: int
    output_tokens: int
    active_at: float
    flow: FlowQueue


class ShareTally:
    """`touch` is for the hot path; the rest happens once an exchange."""

    def __init__(self) -> None:
        self._changed: dict[Key, FlowQueue] = {}
        self._told: dict[Key, _Told] = {}

    @property
    def has_news(self) -> bool:
        return bool(self._changed)

    def touch(self, priority: int, flow: FlowQueue) -> None:
        """The flow's queue or counters are about to change."""
        key = (priority, flow.fairness_id)
        if key not in self._changed:
            self._changed[key] = flow
            if key not in self._told and len(self._told) < MOST_FLOWS:
                self._told[key] = _Told(
                    flow.dispatched, flow.prompt_tokens, flow.output_tokens, 0.0, flow
                )

    def take(self, now: float, *, whole: bool) -> list[FlowDemand]:
        """The flows that have changed since the last time; with `whole`, all."""
        for key, flow in self._changed.items():
            told = self._told.get(key)
            if told is not None:
                told.active_at, told.flow = now, flow
        if whole:
            self._forget_idle(now)
        keys = self._told if whole else [key for key in self._changed if key in self._told]
        found = [self._demand(key, self._told[key]) for key in keys]
        self._changed.clear()
        return found

    def _demand(self, key: Key, told: _Told) -> FlowDemand:
        flow = told.flow
        if flow.dispatched < told.requests:  # the flow was forgotten, and counts anew
            told.requests = told.prompt_tokens = told.output_tokens = 0
        return FlowDemand(
            key[0],
            key[1],
            flow.requests,
            flow.dispatched - told.requests,
            flow.prompt_tokens - told.prompt_tokens,
            flow.output_tokens - told.output_tokens,
        )

    def _forget_idle(self, now: float) -> None:
        idle = [
            key
            for key, told in self._told.items()
            if not told.flow.requests and told.active_at <= now - IDLE_S
        ]
        for key in idle:
            del self._told[key]
