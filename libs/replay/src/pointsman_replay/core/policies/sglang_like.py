"""A policy after SGLang's cache-aware router, for comparison."""

from pointsman_replay.core.policies.policy import QuietPolicy, Surroundings, lowest
from pointsman_replay.core.policies.recency_index import RecencyIndex
from pointsman_replay.core.trace import TraceRequest

CACHE_THRESHOLD = 0.3
BALANCE_ABSOLUTE = 64
BALANCE_RELATIVE = 1.5
TREE_CACHES = 4
"""Size of the router's tree for an endpoint, in caches of the engine."""


class SglangLike(QuietPolicy):
    """Shortest queue while in-flight requests are out of balance; else the best prefix match where
    it is more than 0.3 of the prompt, else the endpoint with the smallest tree.

    Source: sglang-router's cache_aware policy and its defaults. Simplified: blocks for characters.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        capacity = TREE_CACHES * surroundings.pool.profile.total_blocks
        self._rng = surroundings.rng
        self._in_flight = [0] * surroundings.replicas
        self._trees = [RecencyIndex(capacity) for _ in range(surroundings.replicas)]

    def pick(self, number: int, request: TraceRequest) -> int:
        del number
        row = lowest(self._costs(request), self._rng)
        self._trees[row].insert(request.block_hashes)
        self._in_flight[row] += 1
        return row

    def finished(self, number: int, request: TraceRequest, row: int) -> None:
        del number, request
        self._in_flight[row] -= 1

    def _costs(self, request: TraceRequest) -> list[float]:
        fewest, most = min(self._in_flight), max(self._in_flight)
        unbalanced = most - fewest > BALANCE_ABSOLUTE and most > BALANCE_RELATIVE * fewest
        if unbalanced or not request.block_hashes:
            return [float(one) for one in self._in_flight]
        matches = [tree.match(request.block_hashes) for tree in self._trees]
        if max(matches) > CACHE_THRESHOLD * len(request.block_hashes):
            return [-float(match) for match in matches]
        return [float(len(tree)) for tree in self._trees]
