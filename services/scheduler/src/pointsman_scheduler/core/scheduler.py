"""Runs the profiles that the handler asks for, and says what came of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from pointsman_common.endpoint import Endpoint
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.decision_random import DecisionRandom
from pointsman_scheduler.core.plugin_protocols import (
    PickObserver,
    ProfileHandler,
    Remembering,
    ResponseEditor,
)
from pointsman_scheduler.core.scheduling_profile import Placed, ProfileRun, SchedulingProfile
from pointsman_scheduler.core.scheduling_request import SchedulingRequest

MAX_ROUNDS = 16
"""A handler that asks for more rounds of profiles than this would never end."""


class Refusal(Enum):
    """Why no endpoint was picked."""

    NO_ENDPOINTS = "no-endpoints"
    """None is ready, or none is in the gateway's subset."""
    NOT_CACHED = "not-cached"
    """No endpoint holds a part of the prompt, and the request asks for that."""
    FILTERED = "filtered"
    """The filters left none."""
    NO_TARGET = "no-target"
    """The profile handler found no endpoint in what the profiles gave."""


_NOBODY: Mapping[str, Remembering] = {}
_NOTHING: Mapping[str, bytes] = {}


@dataclass(slots=True)
class Decision:
    """Where the request goes."""

    profile: str
    """Of the primary endpoint."""
    endpoints: Sequence[Endpoint]
    """Primary first, then the fallbacks in order; never empty."""
    row: int
    """The primary's row among the candidates."""
    headers: Mapping[str, str]
    """To be set on the request."""
    response_headers: Mapping[str, str]
    """To be set on the answer."""
    runs: Mapping[str, ProfileRun]
    """By profile, in the order in which they ran."""
    prefill: Endpoint | None = None
    """That computes the prompt; `None`: the primary."""
    prefill_profile: str = ""
    """Of that endpoint; empty: there is none."""


@dataclass(slots=True)
class Refused:
    refusal: Refusal
    runs: Mapping[str, ProfileRun] = field(default_factory=dict[str, ProfileRun])


class Scheduler:
    """`profiles` by name. Not empty; the handler accepts them."""

    def __init__(
        self,
        profiles: Mapping[str, SchedulingProfile],
        handler: Placed[ProfileHandler],
        observers: Sequence[PickObserver] = (),
        editors: Sequence[ResponseEditor] = (),
        remembering: Mapping[str, Remembering] = _NOBODY,
    ) -> None:
        self.profiles, self.handler = profiles, handler
        self.remembering = remembering
        self._observers, self._editors = observers, editors
        self._names = tuple(profiles)
        self._rng = DecisionRandom()

    def memories(self, request: SchedulingRequest, candidates: Candidates) -> Mapping[str, bytes]:
        """What the plugins remember that may count in the decision to come, by their names."""
        if not self.remembering:
            return _NOTHING
        told = {
            name: plugin.memory_of(request, candidates) for name, plugin in self.remembering.items()
        }
        return {name: memory for name, memory in told.items() if memory}

    def tell_picked(
        self, request: SchedulingRequest, candidates: Candidates, endpoint: Endpoint
    ) -> None:
        """Tell the plugins that want to know where a request went."""
        for observer in self._observers:
            observer.picked(request, candidates, endpoint)

    def schedule(
        self, request: SchedulingRequest, candidates: Candidates, *, tell: bool = True
    ) -> Decision | Refused:
        """Decide among the candidates, of which there is at least one.

        `tell`: the request will go there, and the plugins that want to know are told.

        Raises:
            ValueError: a plugin broke its promise.
        """
        runs: dict[str, ProfileRun] = {}
        handler, rng = self.handler.plugin, self._rng
        rng.start(request.seed)
        results: dict[str, ProfileRun | None] = {}
        for _ in range(MAX_ROUNDS):
            wanted = handler.next_profiles(request, self._names, results)
            if not wanted:
                break
            for name in wanted:
                run = runs[name] = self.profiles[name].run(request, candidates, rng)
                results[name] = run if run.chosen else None
        else:
            raise ValueError(f"profile handler {self.handler.name!r} never ends")
        conclusion = handler.conclude(request, results)
        if conclusion is None:
            emptied = len(self._names) == 1
            return Refused(Refusal.FILTERED if emptied else Refusal.NO_TARGET, runs)
        primary = runs[conclusion.primary]
        endpoint, response_headers = primary.chosen[0], dict[str, str]()
        if tell:
            self.tell_picked(request, candidates, endpoint)
        for editor in self._editors:
            response_headers.update(editor.response_headers(request, endpoint))
        return Decision(
            profile=conclusion.primary,
            endpoints=_at_port(primary.chosen, conclusion.port),
            row=primary.picked[0],
            headers=conclusion.headers,
            response_headers=response_headers,
            runs=runs,
            prefill=runs[conclusion.prefill].chosen[0] if conclusion.prefill else None,
            prefill_profile=conclusion.prefill,
        )


def _at_port(endpoints: Sequence[Endpoint], port: int) -> Sequence[Endpoint]:
    if not port:
        return endpoints
    return [replace(one, address=f"{one.address.rpartition(':')[0]}:{port}") for one in endpoints]
