"""One request inside the engine: where it stands and what it holds.

    WAITING ──admitted──▶ PREFILLING ──last chunk──▶ DECODING ──last token──▶ GONE
       ▲                      │                         │
       └──────────────────────┴──── preempted ──────────┘        (abort: any ──▶ GONE)

While a sequence decodes, nothing in it changes from step to step: tokens and blocks follow from
the engine's step counters, so a step costs the same with one decoding sequence or with hundreds.
"""

import enum
from dataclasses import dataclass

from pointsman_simulator.core.engine_events import EngineRequest


class Phase(enum.Enum):
    """Where a sequence is in its life."""

    WAITING = enum.auto()
    PREFILLING = enum.auto()
    DECODING = enum.auto()
    GONE = enum.auto()


@dataclass(slots=True, eq=False)
class Sequence:
    """The state of one request; owned by its engine."""

    request: EngineRequest
    arrived_at: float
    phase: Phase = Phase.WAITING
    admitted_at: float = 0.0  # first admission; preempted once at least, it was admitted before
    first_token_at: float = 0.0  # once `reported` is not 0
    cached_tokens: int = 0  # of the first admission
    preemptions: int = 0

    prefill_tokens: int = 0  # to hold in KV before the next token: prompt, and output so far
    computed_tokens: int = 0  # of those, in KV
    shared_blocks: int = 0  # leading prompt blocks held by name

    generated: int = 0  # output tokens, up to `joined_step` while decoding
    reported: int = 0  # of the output tokens, those that events have told
    joined_step: int = 0  # steps finished when decoding began
    finish_step: int = 0  # steps finished when the last token is out

    def generated_after(self, steps: int) -> int:
        """Return the output tokens once `steps` steps are finished."""
        if self.phase is Phase.DECODING:
            return self.generated + steps - self.joined_step
        return self.generated

    def held_tokens(self, steps: int) -> int:
        """Return the tokens that have room in KV once `steps` steps are started."""
        if self.phase is Phase.DECODING:
            return self.prefill_tokens + steps - self.joined_step
        return self.prefill_tokens
