"""How many tokens a model's engine makes of what is estimated as one: learnt from its answers.

The estimate is 4 bytes to a token. What engines count differs by language and tokenizer; the ratio
of a model is the sum of counted over the sum of estimated tokens, in which a request weighs less
the more have come after it (half after `HALF_TOKENS` estimated ones).
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import exp, log

HALF_TOKENS = 200_000
MIN_TOKENS = 20_000
"""Of estimated tokens, from which on a ratio is believed."""
LEAST, MOST = 0.25, 4.0
MAX_MODELS = 1000


@dataclass(slots=True)
class _Sums:
    estimated: float = 0.0
    counted: float = 0.0
    seen: float = 0.0
    ratio: float = 1.0


class TokenRatios:
    def __init__(self) -> None:
        self._models: OrderedDict[str, _Sums] = OrderedDict()

    def of(self, model: str) -> float:
        """Counted tokens to an estimated one; 1 for a model that little is known of."""
        known = self._models.get(model)
        return 1.0 if known is None else known.ratio

    def learn(self, model: str, *, estimated: int, counted: int) -> None:
        """Take in one request: both are numbers of prompt tokens, `estimated` as by 4 bytes."""
        if estimated <= 0 or not LEAST <= counted / estimated <= MOST:
            return  # pictures, or a prompt that another service has changed
        sums = self._models.setdefault(model, _Sums())
        self._models.move_to_end(model)
        if len(self._models) > MAX_MODELS:
            self._models.popitem(last=False)
        kept = exp(-log(2) * estimated / HALF_TOKENS)
        sums.estimated = sums.estimated * kept + estimated
        sums.counted = sums.counted * kept + counted
        sums.seen += estimated
        if sums.seen >= MIN_TOKENS:
            sums.ratio = sums.counted / sums.estimated
