"""The trace that is made up where none is at hand."""

from pointsman_replay.core.generated_trace import BLOCK_TOKENS, generate_trace


def test_the_same_seed_draws_the_same_trace_and_another_does_not() -> None:
    assert generate_trace(50, 1) == generate_trace(50, 1)
    assert generate_trace(50, 1).requests != generate_trace(50, 2).requests


def test_requests_are_ordered_and_name_no_more_than_their_full_blocks() -> None:
    requests = generate_trace(200, 3).requests
    assert len(requests) == 200
    assert list(requests) == sorted(requests, key=lambda one: one.at_s)
    assert all(len(one.block_hashes) == one.prompt_tokens // BLOCK_TOKENS for one in requests)


def test_a_turn_begins_with_the_blocks_of_the_turn_before() -> None:
    requests = generate_trace(200, 3).requests
    continued = sum(
        later.block_hashes[: len(earlier.block_hashes)] == earlier.block_hashes
        for number, earlier in enumerate(requests)
        for later in requests[number + 1 :]
    )
    assert continued > 50
