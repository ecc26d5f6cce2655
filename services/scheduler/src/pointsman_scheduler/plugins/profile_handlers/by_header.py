from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from pointsman_scheduler.core.plugin_protocols import Chosen, Conclusion
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    header_name: Annotated[str, msgspec.Meta(min_length=1)] = "EPP-Profile"
    default_profile: Annotated[str, msgspec.Meta(min_length=1)] = "decode"
    """Where the request has no such header."""


class HeaderProfileHandler:
    """Runs the profile that a header names; one that does not exist refuses the request.

    Source: llm-d-router's header-profile-handler.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._header = parameters.header_name.lower()
        self._default = parameters.default_profile

    def check(self, profiles: Sequence[str]) -> None:
        if self._default not in profiles:
            raise ValueError(f"no profile {self._default!r}; there are: {', '.join(profiles)}")

    def next_profiles(
        self,
        request: SchedulingRequest,
        profiles: Sequence[str],
        results: Mapping[str, Chosen | None],
    ) -> Sequence[str]:
        name = self._profile(request)
        return (name,) if name in profiles and not results else ()

    def conclude(
        self, request: SchedulingRequest, results: Mapping[str, Chosen | None]
    ) -> Conclusion | None:
        name = self._profile(request)
        return None if results.get(name) is None else Conclusion(primary=name)

    def _profile(self, request: SchedulingRequest) -> str:
        return request.headers.get(self._header) or self._default
