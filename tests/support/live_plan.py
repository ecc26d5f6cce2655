"""What a live run and a replay have in common: the cut of a trace, the engines, and the speed.

Both are given the same requests at the same times, on engines that are as much slower than their
profile as it takes for the arrivals to last a given time: so a laptop plays what would need GPUs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import msgspec

from pointsman_replay.adapters.policy_catalogue import choose_policies
from pointsman_replay.adapters.production_pickers import PickerOptions
from pointsman_replay.adapters.virtual_bus import BusTiming
from pointsman_replay.core.measures import Measures, ServiceLevel, measure
from pointsman_replay.core.replay_run import ReplayRun, full_load_span_s
from pointsman_replay.core.trace import (
    Trace,
    fitting,
    scaled_to_span,
    spread,
    with_times,
)
from pointsman_replay.core.virtual_pool import UNNAMED_BLOCK_TOKENS
from pointsman_simulator.core.engine_profile import PROFILES, EngineProfile
from support.traces import BYTES_PER_TOKEN, words

UPSTREAM, POINTSMAN = "upstream", "pointsman"
POLICIES = (UPSTREAM, POINTSMAN)
"""As `pointsman replay` names them."""

COMMON_SHARE = 0.01
"""A block of more requests than this belongs to no conversation: it is a system prompt."""

BUS_DELAY_S = 0.002
TIMES = (
    *("step_overhead_s", "weights_s", "token_s", "decode_s", "context_s", "attention_s"),
    "lora_load_s",
)
"""Fields of an engine profile that the simulator's time factor stretches."""


@dataclass(frozen=True)
class LivePlan:
    """Times are as they pass in the run, in seconds: the engines are slowed, not the clock."""

    trace: Trace
    profile: EngineProfile
    """With the trace's blocks; at its own speed."""
    engines: int
    schedulers: int
    load: float
    """1.0 is what round-robin drains, see `full_load_span_s`."""
    time_factor: float
    """By which the engines are slower than their profile."""

    @property
    def answer_tokens_per_s(self) -> float:
        """What the machine's load mostly follows from: each token is a chunk through Envoy."""
        tokens = sum(request.output_tokens for request in self.trace.requests)
        return tokens / self.trace.span_s

    @property
    def slowed(self) -> EngineProfile:
        slower = {name: getattr(self.profile, name) * self.time_factor for name in TIMES}
        return msgspec.structs.replace(self.profile, **slower)

    def prompt(self, number: int, salt: str = "") -> str:
        """Text of the request's length that shares its blocks with the others as the trace says,
        and none with prompts of another salt."""
        request, block_bytes = (
            self.trace.requests[number],
            self.profile.block_size * BYTES_PER_TOKEN,
        )
        named = [words(f"{salt} block {block}", block_bytes) for block in request.block_hashes]
        text = "".join(named)
        own = words(f"{salt} request {number}", request.prompt_tokens * BYTES_PER_TOKEN - len(text))
        return text + own


def plan_live(
    trace: Trace,
    *,
    engines: int,
    load: float,
    seconds: float,
    profile: str = "8b-h100",
    schedulers: int = 1,
) -> LivePlan:
    """Plan a run whose arrivals take `seconds` at a load.

    Raises:
        ReplayError: the trace cannot be replayed on these engines.
    """
    chosen = msgspec.structs.replace(
        PROFILES[profile], block_size=trace.block_tokens or UNNAMED_BLOCK_TOKENS
    )
    trace = fitting(trace, chosen.longest_tokens)
    full_s = full_load_span_s(trace, chosen, engines)
    return LivePlan(
        trace=scaled_to_span(trace, seconds),
        profile=chosen,
        engines=engines,
        schedulers=schedulers,
        load=load,
        time_factor=seconds * load / full_s,
    )


def cut(trace: Trace, requests: int, answer_tokens: int, *, seed: str = "cut") -> Trace:
    """Return whole conversations of a trace, drawn at random, up to so many requests in all, with
    answers of at most `answer_tokens`.

    The first requests of a trace would find little in the caches: a conversation goes on minutes
    later.
    """
    trace = spread(trace, Random(f"{seed}/spread"))
    kept = sorted(_drawn(trace, requests, Random(f"{seed}/conversations")))
    shorter = [
        msgspec.structs.replace(one, output_tokens=min(one.output_tokens, answer_tokens))
        for one in (trace.requests[index] for index in kept)
    ]
    whole = Trace(trace.name, trace.block_tokens, tuple(shorter), trace.notes)
    return with_times(whole, [one.at_s for one in shorter])


def _drawn(trace: Trace, requests: int, rng: Random) -> list[int]:
    if requests >= len(trace.requests):
        return list(range(len(trace.requests)))
    conversations = list(_conversations(trace).values())
    rng.shuffle(conversations)
    drawn: list[int] = []
    for conversation in conversations:
        drawn += conversation[: requests - len(drawn)]
        if len(drawn) == requests:
            break
    return drawn


def _conversations(trace: Trace) -> Mapping[int, list[int]]:
    """Indices of requests, by the first block that is not common to many."""
    users: dict[int, int] = {}
    for request in trace.requests:
        for block in request.block_hashes:
            users[block] = users.get(block, 0) + 1
    most = COMMON_SHARE * len(trace.requests)
    found: dict[int, list[int]] = {}
    for index, request in enumerate(trace.requests):
        own = (block for block in request.block_hashes if users[block] <= most)
        found.setdefault(next(own, -1 - index), []).append(index)
    return found


def replayed(plan: LivePlan, seeds: Sequence[int]) -> dict[str, list[Measures]]:
    """What the replay foretells, by policy, for each seed of the policies' dice."""
    options = PickerOptions(plan.schedulers, BusTiming(BUS_DELAY_S))
    built = choose_policies(list(POLICIES), options)
    return {
        policy: [
            measure(
                ReplayRun(
                    plan.trace, plan.slowed, plan.engines, build, seed=f"{seed}/{policy}"
                ).run(),
                ServiceLevel(),
            )
            for seed in seeds
        ]
        for policy, build in built.items()
    }
