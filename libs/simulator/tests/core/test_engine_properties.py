"""What holds whatever arrives, whenever the caller looks."""

from dataclasses import dataclass, field

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman_simulator.core.engine import Engine
from pointsman_simulator.core.engine_events import (
    BlocksStored,
    EngineRequest,
    Event,
    Finished,
    FirstToken,
    Preempted,
    Tokens,
)
from pointsman_simulator.core.engine_profile import H100_8B

PROFILE = msgspec.structs.replace(
    H100_8B, kv_tokens=240, block_size=4, step_budget_tokens=48, max_sequences=6, max_loras=2
)


class Arrival(msgspec.Struct, frozen=True):
    gap_s: float
    prompt: int
    output: int
    family: int  # requests of a family share their prefix
    streamed: bool
    lora: str | None
    abort_after_s: float | None


arrivals = st.lists(
    st.builds(
        Arrival,
        gap_s=st.sampled_from([0.0, 0.001, 0.01, 0.05]),
        prompt=st.integers(1, 120),
        output=st.integers(1, 100),
        family=st.integers(0, 2),
        streamed=st.booleans(),
        lora=st.sampled_from([None, None, "x", "y", "z"]),
        abort_after_s=st.one_of(st.none(), st.none(), st.floats(0.0, 0.5)),
    ),
    min_size=1,
    max_size=25,
)
looks = st.lists(st.floats(0.0, 1.0), max_size=20)


@dataclass
class Run:
    """A workload played to its end, with everything that was seen on the way."""

    engine: Engine
    events: list[Event] = field(default_factory=list)
    aborted: set[str] = field(default_factory=set)

    def play(self, workload: list[Arrival], look_at: list[float]) -> None:
        moves: list[tuple[float, int, str]] = [(at, 2, "") for at in look_at]
        clock = 0.0
        for index, arrival in enumerate(workload):
            clock += arrival.gap_s
            moves.append((clock, 0, str(index)))
            if arrival.abort_after_s is not None:
                moves.append((clock + arrival.abort_after_s, 1, str(index)))
        for at, kind, name in sorted(moves, key=lambda move: (move[0], move[1], len(move[2]))):
            if kind == 0:
                self.engine.submit(self.request(name, workload[int(name)]), at)
            elif kind == 1:
                # What was seen up to now belongs to the request; afterwards it is gone.
                self.look(at)
                if self.engine.abort(name, at):
                    self.aborted.add(name)
            else:
                self.look(at)
            assert 0 <= self.engine.used_blocks <= PROFILE.total_blocks
        while (due := self.engine.next_event_at()) is not None:
            self.look(due)

    def look(self, at: float) -> None:
        self.events += self.engine.advance(at)
        assert 0 <= self.engine.used_blocks <= PROFILE.total_blocks

    @staticmethod
    def request(name: str, arrival: Arrival) -> EngineRequest:
        adapter = (None, "x", "y", "z").index(arrival.lora)
        seed = 10_000 * adapter + 1000 * arrival.family
        return EngineRequest(
            request_id=name,
            prompt_tokens=arrival.prompt,
            output_tokens=arrival.output,
            block_hashes=[seed + block for block in range(arrival.prompt // PROFILE.block_size)],
            lora=arrival.lora,
            streamed=arrival.streamed,
        )

    def finished(self) -> dict[str, Finished]:
        done = [event for event in self.events if isinstance(event, Finished)]
        assert len({event.request_id for event in done}) == len(done)
        return {event.request_id: event for event in done}


def played(workload: list[Arrival], look_at: list[float]) -> Run:
    run = Run(Engine(PROFILE, record_kv_events=True))
    run.play(workload, look_at)
    return run


@settings(deadline=None)
@given(arrivals, looks)
def test_every_request_finishes_or_is_aborted_and_nothing_is_left(
    workload: list[Arrival], look_at: list[float]
) -> None:
    run = played(workload, look_at)
    done = set(run.finished())
    assert done | run.aborted == {str(index) for index in range(len(workload))}
    assert not done & run.aborted
    assert run.engine.used_blocks == 0
    assert run.engine.load == (0, 0)
    stats = run.engine.stats(1e9)
    assert (stats.finished, stats.aborted) == (len(done), len(run.aborted))
    assert stats.preemptions == sum(isinstance(event, Preempted) for event in run.events)
    assert stats.cached_blocks <= stats.total_blocks


@settings(deadline=None)
@given(arrivals, looks)
def test_no_token_is_lost_or_told_twice(workload: list[Arrival], look_at: list[float]) -> None:
    run = played(workload, look_at)
    done = run.finished()
    told = dict.fromkeys(done, 0)
    last_at = dict.fromkeys(done, 0.0)
    for event in run.events:
        name = event.request_id
        if name not in done:
            continue
        assert event.at >= last_at[name]
        last_at[name] = event.at
        if isinstance(event, FirstToken):
            assert told[name] == 0
            told[name] = 1
        elif isinstance(event, Tokens):
            assert told[name] >= 1
            told[name] += event.count
    for name, event in done.items():
        arrival = workload[int(name)]
        assert event.output_tokens == arrival.output
        assert told[name] == (arrival.output if arrival.streamed else 1)
        assert event.cached_tokens < arrival.prompt
        assert event.arrived_at <= event.admitted_at < event.first_token_at <= event.at
    if not run.aborted:
        assert run.engine.stats(1e9).generation_tokens == sum(one.output for one in workload)


@settings(deadline=None)
@given(arrivals, looks)
def test_admission_is_first_come_first_served(
    workload: list[Arrival], look_at: list[float]
) -> None:
    plain = [msgspec.structs.replace(arrival, lora=None) for arrival in workload]
    done = played(plain, look_at).finished()
    admitted = [done[name].admitted_at for name in sorted(done, key=int)]
    assert admitted == sorted(admitted)


@settings(deadline=None)
@given(arrivals, looks)
def test_it_does_not_matter_when_the_caller_looks(
    workload: list[Arrival], look_at: list[float]
) -> None:
    silent = [
        msgspec.structs.replace(arrival, streamed=False, abort_after_s=None) for arrival in workload
    ]
    streamed = [msgspec.structs.replace(arrival, streamed=True) for arrival in silent]
    expected = played(silent, []).finished()
    assert played(silent, look_at).finished() == expected
    assert played(streamed, look_at).finished() == expected


@settings(deadline=None)
@given(arrivals)
def test_kv_events_rebuild_the_cache_and_a_chain_never_loses_its_head_first(
    workload: list[Arrival],
) -> None:
    run = played(workload, [])
    parents: dict[int, int | None] = {}
    for event in run.engine.drain_kv_events():
        if isinstance(event, BlocksStored):
            parent = event.parent_hash
            for block in event.block_hashes:
                assert block not in parents
                parents[block] = parent
                parent = block
        else:
            for block in event.block_hashes:
                del parents[block]
        assert all(parent is None or parent in parents for parent in parents.values())
    assert len(parents) == run.engine.stats(1e9).cached_blocks
