from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from pointsman_scheduler.core.plugin_protocols import Chosen, Conclusion
from pointsman_scheduler.core.scheduling_request import SchedulingRequest
from pointsman_scheduler.plugins.profile_handlers.single_profile import SingleProfileHandler

RANK_HEADER = "x-data-parallel-host-port"


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    primary_port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 8000
    """Where the sidecar of a model server listens, for all its ranks."""


class DataParallelHandler(SingleProfileHandler):
    """Runs the one profile there is, and sends the request to the primary port of the endpoint; the
    chosen rank's own address is told in a header.

    Source: llm-d-router's data-parallel-profile-handler.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._port = parameters.primary_port

    def check(self, profiles: Sequence[str]) -> None:
        if len(profiles) != 1:
            raise ValueError(
                f"data-parallel-profile-handler runs one profile, and there are {len(profiles)}"
            )

    def conclude(
        self, request: SchedulingRequest, results: Mapping[str, Chosen | None]
    ) -> Conclusion | None:
        concluded = super().conclude(request, results)
        if concluded is None:
            return None
        chosen = results[concluded.primary]
        address = chosen.chosen[0].address if chosen else ""
        return Conclusion(concluded.primary, headers={RANK_HEADER: address}, port=self._port)
