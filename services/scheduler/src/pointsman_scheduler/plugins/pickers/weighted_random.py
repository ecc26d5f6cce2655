import math
from collections.abc import Sequence
from random import Random

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.plugins.pickers.max_score import Parameters


class WeightedRandomPicker:
    """Takes each with a chance in proportion to its score, without replacement.

    Each gets the key U^(1/score) with U uniform in (0, 1), and the largest keys are taken; here by
    their logarithm, which does not run into 0 for small scores. A score of 0 is taken only when the
    others are gone; when all are 0, any is as likely.
    Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006, as in
    llm-d-router's weighted-random-picker.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._wanted = parameters.max_num_of_endpoints

    def pick(self, totals: FloatArray, rng: Random) -> Sequence[int]:
        keys: list[tuple[float, float, int]] = []
        for row, score in enumerate(totals.tolist()):
            draw = 1.0 - rng.random()  # in (0, 1]
            keys.append((math.log(draw) / score if score > 0 else -math.inf, draw, row))
        keys.sort(reverse=True)
        return [row for _, _, row in keys[: self._wanted]]
