"""Each policy, where it matters what it looks at."""

from collections import Counter
from random import Random

from pointsman_replay.core.policies.dynamo_like import DynamoLike
from pointsman_replay.core.policies.oracle import Oracle
from pointsman_replay.core.policies.policy import Surroundings
from pointsman_replay.core.policies.recency_index import RecencyIndex
from pointsman_replay.core.policies.sglang_like import BALANCE_ABSOLUTE, SglangLike
from pointsman_replay.core.policies.simple import LeastRequest, RandomEndpoint, RoundRobin
from pointsman_replay.core.timeline import Timeline
from pointsman_replay.core.trace import TraceRequest
from pointsman_replay.core.virtual_pool import ScrapeTiming, VirtualPool
from pointsman_simulator.core.engine_profile import H100_8B

BLOCK = 64


def surroundings(replicas: int = 3) -> Surroundings:
    timeline = Timeline()
    pool = VirtualPool(
        timeline,
        H100_8B,
        replicas,
        block_tokens=BLOCK,
        scrapes=ScrapeTiming(),
        on_first_token=lambda *_: None,
        on_finished=lambda *_: None,
    )
    return Surroundings(timeline, pool, BLOCK, Random(1))


def a_request(blocks: int, *, chain: int = 0) -> TraceRequest:
    """A prompt of so many blocks of one chain, and a bit of the next."""
    hashes = tuple(chain * 10_000 + index for index in range(blocks))
    return TraceRequest(0.0, blocks * BLOCK + 7, 10, hashes)


def test_round_robin_takes_each_in_turn() -> None:
    policy = RoundRobin(surroundings())
    assert [policy.pick(number, a_request(1)) for number in range(5)] == [0, 1, 2, 0, 1]


def test_random_takes_each_about_as_often() -> None:
    policy = RandomEndpoint(surroundings())
    taken = Counter(policy.pick(number, a_request(1)) for number in range(3000))
    assert all(900 < count < 1100 for count in taken.values())


def test_least_request_goes_where_an_answer_has_ended() -> None:
    policy, request = LeastRequest(surroundings()), a_request(1)
    rows = [policy.pick(number, request) for number in range(3)]
    assert sorted(rows) == [0, 1, 2]
    policy.finished(1, request, rows[1])
    assert policy.pick(3, request) == rows[1]


def test_dynamo_like_weighs_what_is_cached_against_what_decodes_there() -> None:
    policy, request = DynamoLike(surroundings()), a_request(10)
    first = policy.pick(0, request)
    policy.first_token(0, request, first)
    policy.finished(0, request, first)
    second = policy.pick(1, request)
    policy.first_token(1, request, second)
    assert second == first
    # In tokens: staying costs 7 to compute and 647 that decode there, leaving 647 to compute.
    assert policy.pick(2, request) != first


def test_dynamo_like_forgets_what_has_ended() -> None:
    policy, request = DynamoLike(surroundings()), a_request(10)
    rows: list[int] = []
    for number in range(5):
        row = policy.pick(number, request)
        policy.first_token(number, request, row)
        policy.finished(number, request, row)
        rows.append(row)
    assert len(set(rows)) == 1


def test_sglang_like_follows_the_prefix_until_the_queues_are_out_of_balance() -> None:
    policy, request = SglangLike(surroundings()), a_request(10)
    rows = [policy.pick(number, request) for number in range(BALANCE_ABSOLUTE + 2)]
    assert len(set(rows[:-1])) == 1
    assert rows[-1] != rows[0]


def test_sglang_like_gives_a_new_prompt_to_the_smallest_tree() -> None:
    policy = SglangLike(surroundings(2))
    first = policy.pick(0, a_request(10, chain=1))
    assert policy.pick(1, a_request(3, chain=2)) != first
    assert policy.pick(2, a_request(3, chain=3)) != first


def test_the_oracle_sees_prefill_that_is_queued() -> None:
    around = surroundings(2)
    around.pool.submit(0, 0, a_request(500))
    assert Oracle(around).pick(1, a_request(1, chain=1)) == 1


def test_the_oracle_sees_what_an_engine_really_holds() -> None:
    around = surroundings(3)
    around.pool.submit(1, 0, a_request(200))
    around.timeline.run_until(60.0)
    assert [Oracle(around).pick(number, a_request(200)) for number in (1, 2, 3)] == [1, 1, 1]


def test_the_oracle_avoids_an_engine_without_room() -> None:
    around = surroundings(2)
    for number in range(3):  # together nearly the whole cache, and long answers
        request = TraceRequest(0.0, 130_000, 2000)
        around.pool.submit(0, number, request)
    around.timeline.run_until(60.0)
    around.pool.submit(1, 9, TraceRequest(0.0, 30_000, 2))  # a second's work
    assert around.pool.engines[0].backlog_tokens() == 0
    assert Oracle(around).pick(10, TraceRequest(0.0, 40_000, 2)) == 1


def test_the_index_forgets_the_tail_of_the_oldest_chain_first() -> None:
    index = RecencyIndex(5)
    index.insert((1, 2, 3))
    index.insert((7, 8, 9))
    assert (index.match((1, 2, 3)), index.match((7, 8, 9)), len(index)) == (2, 3, 5)
