"""What a policy is, and what it is given."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

from pointsman_replay.core.timeline import Timeline
from pointsman_replay.core.trace import TraceRequest
from pointsman_replay.core.virtual_pool import VirtualPool


class Policy(Protocol):
    """Places requests; each call is at the timeline's present. `number` counts the requests."""

    def pick(self, number: int, request: TraceRequest) -> int | None:
        """Row of the endpoint that serves; `None`: none does, and the request is refused."""
        ...

    def first_token(self, number: int, request: TraceRequest, row: int) -> None: ...

    def finished(self, number: int, request: TraceRequest, row: int) -> None: ...

    def close(self) -> None:
        """The run is over."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """What a policy may use: the pool and the time, its seeded dice, the trace's blocks."""

    timeline: Timeline
    pool: VirtualPool
    block_tokens: int
    rng: Random

    @property
    def replicas(self) -> int:
        return len(self.pool.engines)


BuildPolicy: TypeAlias = Callable[[Surroundings], Policy]


class QuietPolicy:
    """A policy that learns nothing from answers, to derive from."""

    def first_token(self, number: int, request: TraceRequest, row: int) -> None:
        del number, request, row

    def finished(self, number: int, request: TraceRequest, row: int) -> None:
        del number, request, row

    def close(self) -> None:
        """Nothing is held."""


def lowest(costs: list[float], rng: Random) -> int:
    """The row of the lowest cost, ties at random."""
    best = min(costs)
    ties = [row for row, cost in enumerate(costs) if cost <= best + 1e-12]
    return ties[0] if len(ties) == 1 else rng.choice(ties)
