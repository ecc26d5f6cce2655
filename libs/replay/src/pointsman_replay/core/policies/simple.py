"""Policies that know nothing of prompts: round-robin, random, least requests."""

from pointsman_replay.core.policies.policy import QuietPolicy, Surroundings, lowest
from pointsman_replay.core.trace import TraceRequest


class RoundRobin(QuietPolicy):
    """Each endpoint in turn."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._replicas, self._next = surroundings.replicas, 0

    def pick(self, number: int, request: TraceRequest) -> int:
        del number, request
        row, self._next = self._next, (self._next + 1) % self._replicas
        return row


class RandomEndpoint(QuietPolicy):
    def __init__(self, surroundings: Surroundings) -> None:
        self._replicas, self._rng = surroundings.replicas, surroundings.rng

    def pick(self, number: int, request: TraceRequest) -> int:
        del number, request
        return self._rng.randrange(self._replicas)


class LeastRequest(QuietPolicy):
    """The fewest requests in flight, counted by the picker itself, as Envoy's least-request."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._rng = surroundings.rng
        self._in_flight = [0.0] * surroundings.replicas

    def pick(self, number: int, request: TraceRequest) -> int:
        del number, request
        row = lowest(self._in_flight, self._rng)
        self._in_flight[row] += 1
        return row

    def finished(self, number: int, request: TraceRequest, row: int) -> None:
        del number, request
        self._in_flight[row] -= 1
