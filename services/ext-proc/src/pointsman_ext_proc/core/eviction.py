"""What the client of a request in flight is told that makes room for a higher priority, and what
becomes of it. Code, reason and text are those of llm-d-router."""

from typing import Literal

from pointsman_common.error_mapping import EVICTED, rejection

EVICTION = rejection(
    "ResourceExhausted", "request evicted by flow control", reason=EVICTED, retry_after_s=1
)

Eviction = Literal["refused", "cut", "out-of-reach"]
"""Before its answer began; in the middle of it; not ended: only the gateway still carries it."""

EVICTIONS: tuple[Eviction, ...] = ("refused", "cut", "out-of-reach")
