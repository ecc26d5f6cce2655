from collections.abc import Mapping, Sequence

from pointsman_scheduler.core.plugin_protocols import Chosen, Conclusion
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


class SingleProfileHandler:
    """Runs the one profile there is. Source: llm-d-router's single-profile-handler."""

    def check(self, profiles: Sequence[str]) -> None:
        if len(profiles) != 1:
            raise ValueError(
                f"single-profile-handler runs one profile, and there are {len(profiles)}"
            )

    def next_profiles(
        self,
        request: SchedulingRequest,
        profiles: Sequence[str],
        results: Mapping[str, Chosen | None],
    ) -> Sequence[str]:
        del request
        return () if results else profiles

    def conclude(
        self, request: SchedulingRequest, results: Mapping[str, Chosen | None]
    ) -> Conclusion | None:
        del request
        [(name, result)] = results.items()
        return None if result is None else Conclusion(primary=name)
