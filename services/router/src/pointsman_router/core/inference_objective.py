"""How important a request is: a number, of which a negative one may be shed."""

from collections.abc import Mapping

DEFAULT_PRIORITY = 0


def priority_of(objective: str, objectives: Mapping[str, int], of_model: int | None) -> int:
    """The priority of the InferenceObjective that the client names; 0 for one that is not known.

    Where it names none (an empty name), that of the model's InferenceModel, else 0.
    """
    if objective:
        return objectives.get(objective, DEFAULT_PRIORITY)
    return DEFAULT_PRIORITY if of_model is None else of_model
