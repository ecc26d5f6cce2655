"""How long each model's answers have been of late, in tokens."""

from collections import OrderedDict

FORGETTING = 0.02
"""Weight of the newest answer in the moving average."""


class OutputLengths:
    """Exponentially weighted means by model; of so many models, those used last."""

    def __init__(self, *, models: int = 1000) -> None:
        self._models = models
        self._means: OrderedDict[str, float] = OrderedDict()

    def note(self, model: str, output_tokens: int) -> None:
        """An answer ended."""
        mean = self._means.get(model)
        if mean is None:
            self._means[model] = float(output_tokens)
            if len(self._means) > self._models:
                self._means.popitem(last=False)
        else:
            self._means[model] = mean + FORGETTING * (output_tokens - mean)
            self._means.move_to_end(model)

    def mean(self, model: str) -> float | None:
        """`None`: no answer of the model was seen."""
        return self._means.get(model)
