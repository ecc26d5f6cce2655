"""An engine that can be looked into: what no picker can know, for the oracle."""

from collections.abc import Sequence

from pointsman_simulator.core.engine import Engine
from pointsman_simulator.core.sequence import Phase


class VisibleEngine(Engine):
    """The state between two calls, exact."""

    def cached_tokens(self, block_hashes: Sequence[int], prompt_tokens: int) -> int:
        """Tokens of a prompt that its prefill would be spared; the last one is computed."""
        block = self.profile.block_size
        return self._pool.match(block_hashes, (prompt_tokens - 1) // block)[0] * block

    def backlog_tokens(self) -> int:
        """Prompt tokens yet to be computed of those admitted and of those waiting."""
        scheduler = self._scheduler
        tokens = sum(one.prefill_tokens - one.computed_tokens for one in scheduler.prefilling)
        for one in scheduler.waiting:
            request = one.request
            length = request.prompt_tokens + one.generated
            tokens += length - self.cached_tokens(request.block_hashes, length)
        return tokens

    def waiting_tokens(self) -> int:
        """Lengths of the waiting prompts, cached or not."""
        return sum(one.request.prompt_tokens for one in self._scheduler.waiting)

    @property
    def decodes(self) -> tuple[int, int]:
        """Sequences that decode, and the context that they read in a step."""
        return self._decodes.size, self._decodes.context

    def steps_until_free(self, tokens: int) -> int | None:
        """Steps until ending answers have released so many tokens of the KV cache; `None`: all
        that decode together hold fewer."""
        done = self._decodes.steps_done
        decoding = [one for one in self._scheduler.running.values() if one.phase is Phase.DECODING]
        for one in sorted(decoding, key=lambda one: one.finish_step):
            tokens -= one.held_tokens(done)
            if tokens <= 0:
                return one.finish_step - done
        return None
