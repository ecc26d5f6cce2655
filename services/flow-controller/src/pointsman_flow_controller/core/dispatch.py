"""Which band, flow and request go next.

Bands are strictly ordered: while the highest band with work is held back, so are all below it.
"""

from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.flow_registry import FlowRegistry
from pointsman_flow_controller.core.priority_band import PriorityBand


def next_request(registry: FlowRegistry) -> tuple[PriorityBand, QueuedRequest] | None:
    """The request whose turn it is, and its band; `None` when nothing waits."""
    band = registry.highest()
    head = band.head() if band is not None else None
    return None if band is None or head is None else (band, head)
