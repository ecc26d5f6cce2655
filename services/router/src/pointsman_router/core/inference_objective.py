"""How important a request is: a number, of which a negative one may be shed."""

from collections.abc import Mapping

from pointsman_common.inference_pool import ModelRule

DEFAULT_PRIORITY = 0


def priority_of(objective: str, objectives: Mapping[str, int], rule: ModelRule | None) -> int:
    """The priority of the InferenceObjective that the client names; 0 for one that is not known.

    Where it names none (an empty name), that of the InferenceModel that matched, else 0.
    """
    if objective:
        return objectives.get(objective, DEFAULT_PRIORITY)
    if rule is not None and rule.priority is not None:
        return rule.priority
    return DEFAULT_PRIORITY
