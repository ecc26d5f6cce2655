"""What a plugin is: a filter, a scorer, a picker or a profile handler.

Plugins are pure: they see values, never the bus or the clock. One plugin may be several of these,
and is then used as each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol, TypeAlias, runtime_checkable

from pointsman_common.endpoint import Endpoint
from pointsman_scheduler.core.arrays import BoolArray, FloatArray
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.scheduling_request import SchedulingRequest


@runtime_checkable
class Filter(Protocol):
    def keep(self, request: SchedulingRequest, candidates: Candidates) -> BoolArray:
        """True for each candidate that stays."""
        ...


@runtime_checkable
class Scorer(Protocol):
    def score(self, request: SchedulingRequest, candidates: Candidates) -> FloatArray:
        """A new array of 0 to 1 for each candidate, 1 being the best. What is outside is cut off,
        and NaN counts as 0. Says itself what an unknown metric means."""
        ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds, for each candidate."""

    cost_s: FloatArray
    """Of placing the request there, for it and for the others."""
    ttft_s: FloatArray
    """Until its first token."""
    prefill_s: FloatArray
    """Of that, for prompt tokens, its own and those ahead, before the endpoint's speed counts."""
    overhead_s: FloatArray
    """Of that, for the steps that this takes, before the endpoint's speed counts."""


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """What a predictor says of itself."""

    prefill_token_s: float
    """Seconds to compute a prompt token."""
    learns: bool
    """Whether endpoints' speeds are to be learned from the times to first token."""
    speed_label: str
    """Label of an endpoint whose time for the same work, relative to the reference, is known."""
    profile_label: str
    """Label that tells kinds of endpoints apart, beside their engine."""


@runtime_checkable
class LatencyPredictor(Protocol):
    """A scorer whose score follows from a prediction in seconds, which the receipt then shows."""

    @property
    def model(self) -> LatencyModel: ...

    def predict(self, request: SchedulingRequest, candidates: Candidates) -> Prediction: ...

    def score_of(self, prediction: Prediction) -> FloatArray:
        """As `Scorer.score`."""
        ...


@runtime_checkable
class Picker(Protocol):
    def pick(self, totals: FloatArray, rng: Random) -> Sequence[int]:
        """Rows of the chosen candidates, best first; at least one. `totals` are their weighted
        sums, not to be written to, and there is at least one."""
        ...


@runtime_checkable
class PickObserver(Protocol):
    """A plugin that wants to know where requests went."""

    def picked(
        self, request: SchedulingRequest, candidates: Candidates, endpoint: Endpoint
    ) -> None:
        """`candidates` are those before any filter, of which `endpoint` is the primary."""
        ...


@runtime_checkable
class ResponseEditor(Protocol):
    """A plugin that tells the client something with the answer."""

    def response_headers(self, request: SchedulingRequest, endpoint: Endpoint) -> Mapping[str, str]:
        """Headers to be set on the answer, by lower-case name; `endpoint` is the primary."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A plugin whose part in a decision depends on earlier picks. The receipt tells what of them
    counted, so that the decision can be made again."""

    def memory_of(self, request: SchedulingRequest, candidates: Candidates) -> bytes:
        """What is remembered that may count for this request, in a form of its own; empty: nothing.
        `candidates` are those before any filter."""
        ...

    def recall(self, memory: bytes, request: SchedulingRequest, candidates: Candidates) -> None:
        """Remember this and nothing else. Raises ValueError when it is no such memory."""
        ...


class Chosen(Protocol):
    """What a profile handler sees of a profile that has run."""

    @property
    def chosen(self) -> Sequence[Endpoint]:
        """Best first; never empty."""
        ...

    @property
    def cached_blocks(self) -> int:
        """Leading blocks of the prompt that the first likely holds."""
        ...

    @property
    def predicted_ttft_s(self) -> float:
        """Until a first token from there; 0: not predicted."""
        ...


@dataclass(frozen=True, slots=True)
class Conclusion:
    primary: str
    """The profile whose endpoints serve the request."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """To be set on the request."""
    prefill: str = ""
    """The profile whose first endpoint computes the prompt, where that is another."""
    port: int = 0
    """In place of the endpoints' own in the addresses; 0: as they are."""


@runtime_checkable
class ProfileHandler(Protocol):
    def next_profiles(
        self,
        request: SchedulingRequest,
        profiles: Sequence[str],
        results: Mapping[str, Chosen | None],
    ) -> Sequence[str]:
        """Which profiles to run next; none: all has been run. `results` holds those that ran,
        `None` where nothing was left to choose."""
        ...

    def conclude(
        self, request: SchedulingRequest, results: Mapping[str, Chosen | None]
    ) -> Conclusion | None:
        """What follows from the results; `None`: no endpoint can serve."""
        ...

    def check(self, profiles: Sequence[str]) -> None:
        """Raises ValueError when it cannot handle these profiles."""
        ...


@runtime_checkable
class Decider(Protocol):
    """Says whether a stage of inference is to run on an endpoint of its own."""

    def wants(self, request: SchedulingRequest, decode: Chosen) -> bool:
        """Before the stage's profile runs. `decode` is where the answer will be made."""
        ...

    def confirms(self, request: SchedulingRequest, decode: Chosen, stage: Chosen) -> bool:
        """Once it has run."""
        ...


@runtime_checkable
class Referring(Protocol):
    """A plugin that names others in its parameters."""

    def bind(self, plugins: Mapping[str, object]) -> None:
        """Take those it names from all of the document. Raises ValueError when they are not there,
        or are of another kind."""
        ...


Plugin: TypeAlias = Filter | Scorer | Picker | ProfileHandler | Decider
