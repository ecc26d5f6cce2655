from collections.abc import Sequence
from random import Random

from pointsman_scheduler.core.arrays import FloatArray
from pointsman_scheduler.plugins.pickers.max_score import Parameters


class RandomPicker:
    """Takes any, each as likely as the other. Source: llm-d-router's random-picker."""

    def __init__(self, parameters: Parameters) -> None:
        self._wanted = parameters.max_num_of_endpoints

    def pick(self, totals: FloatArray, rng: Random) -> Sequence[int]:
        return rng.sample(range(len(totals)), min(self._wanted, len(totals)))
