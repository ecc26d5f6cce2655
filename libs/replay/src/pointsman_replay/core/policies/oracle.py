"""A policy that sees everything, as a mark to measure others by."""

from pointsman_replay.core.policies.policy import QuietPolicy, Surroundings, lowest
from pointsman_replay.core.trace import TraceRequest
from pointsman_replay.core.visible_engine import VisibleEngine

INTERLEAVING = 1.08
"""What the work ahead takes longer than its tokens alone, for the steps it is cut into."""

NEVER_S = 1e3
"""For a whole cache that no ending answer will free."""


class Oracle(QuietPolicy):
    """The lowest time to first token for the request itself, from the engines' exact state.

    Greedy: it looks neither at those who come later nor at what the request costs the others, so
    it is no bound, and in overload a policy that does may beat it.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._engines, self._rng = surroundings.pool.engines, surroundings.rng

    def pick(self, number: int, request: TraceRequest) -> int:
        del number
        return lowest([self._ttft_s(engine, request) for engine in self._engines], self._rng)

    def _ttft_s(self, engine: VisibleEngine, request: TraceRequest) -> float:
        profile, length = engine.profile, request.prompt_tokens
        cached = engine.cached_tokens(request.block_hashes, length)
        new, ahead = length - cached, engine.backlog_tokens()
        size, context = engine.decodes
        decode_s = profile.decode_s * size + profile.context_s * context
        budget = profile.step_budget_tokens
        ttft_s = ahead * profile.token_s * INTERLEAVING
        ttft_s += -(-new // budget) * profile.step_overhead_s
        ttft_s += max(profile.weights_s, profile.token_s * new)
        ttft_s += profile.attention_s * new * (cached + new / 2)
        ttft_s += -(-(ahead + new) // max(1, budget - size)) * decode_s
        held = engine.used_blocks * profile.block_size
        lacking = held + length + engine.waiting_tokens() - profile.kv_tokens
        if lacking > 0:
            steps = engine.steps_until_free(lacking)
            if steps is None:
                ttft_s += NEVER_S * lacking / profile.kv_tokens
            else:
                step_s = max(profile.weights_s, profile.token_s * size) + decode_s
                ttft_s += steps * (profile.step_overhead_s + step_s)
        return ttft_s
