"""What is read of each format, and how a wrong line is named."""

import pytest

from pointsman_replay.core.trace import ReplayError, TraceRequest
from pointsman_replay.core.trace_formats import read_trace

META = '{"meta":{"source":"s","licence":"l","block":4}}'


def test_our_lines_hold_runs_of_block_ids_and_a_tenant() -> None:
    trace = read_trace("t", [META, '{"t":1500,"in":13,"out":7,"h":[[0,1],[5,9]],"n":104}'])
    assert trace.block_tokens == 4
    assert trace.requests == (TraceRequest(1.5, 13, 7, (0, 1, 5), "104"),)


def test_a_partial_last_block_is_not_matched() -> None:
    [request] = read_trace("t", [META, '{"t":0,"in":11,"out":1,"h":[[0,2]]}']).requests
    assert request.block_hashes == (0, 1)


def test_a_run_of_endless_ids_costs_no_more_than_the_prompt() -> None:
    line = '{"t":0,"in":8,"out":1,"h":[[0,9000000000000000000]]}'
    [request] = read_trace("t", [META, line]).requests
    assert request.block_hashes == (0, 1)


def test_mooncakes_lines_have_blocks_of_512_tokens() -> None:
    line = '{"timestamp":27482,"input_length":1030,"output_length":52,"hash_ids":[46,47,9]}'
    trace = read_trace("t", [line])
    assert trace.block_tokens == 512
    assert trace.requests == (TraceRequest(27.482, 1030, 52, (46, 47)),)


def test_azures_rows_are_counted_from_the_first() -> None:
    trace = read_trace(
        "t",
        [
            "TIMESTAMP,ContextTokens,GeneratedTokens\n",
            "2023-11-16 18:15:46.6805900,374,44\n",
            "2023-11-16 18:15:50.9951690,396,109\n",
        ],
    )
    assert trace.block_tokens == 0
    assert [one.prompt_tokens for one in trace.requests] == [374, 396]
    assert [round(one.at_s, 4) for one in trace.requests] == [0.0, 4.3146]


def test_requests_come_in_the_order_of_arrival_and_with_a_token_each_way() -> None:
    trace = read_trace("t", [META, '{"t":9,"in":5,"out":3}', '{"t":3,"in":0,"out":0}'])
    assert trace.requests[0] == TraceRequest(0.003, 1, 1)


def test_only_as_many_are_read_as_asked_for() -> None:
    lines = [META, '{"t":1,"in":1,"out":1}', '{"t":2,"in":1,"out":1}', "not read"]
    trace = read_trace("t", lines, most=2)
    assert len(trace.requests) == 2
    assert trace.notes == ("first 2 requests",)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "t: is empty"),
        (["", " \n"], "t: is empty"),
        ([META], "t: holds no request"),
        ([META, "{"], "t:2: "),
        ([META, '{"t":0,"in":1}'], "t:2: Object missing required field `out`"),
        ([META, '{"t":-1,"in":1,"out":1}'], r"t:2: Expected `float` >= 0"),
        ([META, '{"t":0,"in":-5,"out":1}'], r"t:2: Expected `int` >= 0"),
        ([META, '{"t":0,"in":1e99,"out":1}'], "t:2: "),
        ([META, '{"t":0,"in":5,"out":1,"h":[[-3,4]]}'], "t:2: Expected `int` >= 0"),
        (['{"timestamp":0}'], "t:1: Object missing required field `input_length`"),
        (["TIMESTAMP,ContextTokens"], "has a column GeneratedTokens"),
        (["hello"], "neither JSON lines nor Azure's CSV"),
        (["TIMESTAMP,ContextTokens,GeneratedTokens", "2023-01-01,x,1"], "t:2: not a line of"),
        (["TIMESTAMP,ContextTokens,GeneratedTokens", "2023-01-01,1"], "t:2: not a line of"),
        (["TIMESTAMP,ContextTokens,GeneratedTokens", "2023-01-01,-1,1"], "t:2: not a line of"),
    ],
)
def test_what_cannot_be_read_is_named(lines: list[str], said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        read_trace("t", lines)
