"""A policy after NVIDIA Dynamo's KV router, for comparison."""

from pointsman_replay.core.policies.policy import Surroundings, lowest
from pointsman_replay.core.policies.recency_index import RecencyIndex
from pointsman_replay.core.trace import TraceRequest


class DynamoLike:
    """cost = prefill blocks, queued and new + decode blocks, own included; lowest, ties at random.

    Source: Dynamo's KvRouter with overlap weight 1 and temperature 0. Simplified: one router, with
    an index from its own picks in place of KV events.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        pool, replicas = surroundings.pool, surroundings.replicas
        self._rng, self._block = surroundings.rng, pool.profile.block_size
        self._held = [RecencyIndex(pool.profile.total_blocks) for _ in range(replicas)]
        self._prefill_tokens = [0] * replicas
        self._decode_tokens = [0] * replicas
        self._new_tokens: dict[int, int] = {}

    def pick(self, number: int, request: TraceRequest) -> int:
        length, hashes = request.prompt_tokens, request.block_hashes
        new = [length - held.match(hashes) * self._block for held in self._held]
        costs = [
            float(prefill + own + decode + length)
            for prefill, own, decode in zip(
                self._prefill_tokens, new, self._decode_tokens, strict=True
            )
        ]
        row = lowest(costs, self._rng)
        self._held[row].insert(hashes)
        self._prefill_tokens[row] += new[row]
        self._decode_tokens[row] += length
        self._new_tokens[number] = new[row]
        return row

    def first_token(self, number: int, request: TraceRequest, row: int) -> None:
        del request
        self._prefill_tokens[row] -= self._new_tokens.pop(number)

    def finished(self, number: int, request: TraceRequest, row: int) -> None:
        del number
        self._decode_tokens[row] -= request.prompt_tokens

    def close(self) -> None:
        """Nothing is held."""
