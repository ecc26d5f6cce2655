import numpy as np

from pointsman_common.endpoint import in_subset
from pointsman_scheduler.core.arrays import BoolArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest

HEADER = "test-epp-endpoint-selection"


class HeaderBasedTestingFilter:
    """Keeps the endpoints that the header names, as `ip` or `ip:port` in a comma list; without the
    header none. For the gateway conformance suite. Source: llm-d-router.
    """

    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        named = request.headers.get(HEADER, "")
        allowed = frozenset(part.strip() for part in named.split(",") if part.strip())
        return np.array(
            [in_subset(endpoint.address, allowed) for endpoint in candidates.endpoints],
            dtype=np.bool_,
        )
