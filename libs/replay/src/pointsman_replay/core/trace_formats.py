"""Reads the text of a trace: our JSON lines, Mooncake's, and Azure's CSV.

- Ours begins with `{"meta": {"source", "licence", "block"}}`; then each line is a request of `t`
  (ms), `in`, `out`, and where known `h` (runs of block ids, first to last) and `n` (tenant).
- Mooncake's has `timestamp` (ms), `input_length`, `output_length` and `hash_ids`, of 512 tokens.
- Azure's has the columns TIMESTAMP, ContextTokens and GeneratedTokens.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from pointsman_replay.core.trace import ReplayError, Trace, TraceRequest

MOONCAKE_BLOCK_TOKENS = 512
AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOST_TOKENS = 10_000_000
"""Of one prompt or output; more is a mistake, and would ask for as many block ids."""

Tokens = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
BlockId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Meta(msgspec.Struct):
    block: Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)] = 0


class _Head(msgspec.Struct):
    meta: _Meta


class _Line(msgspec.Struct):
    t: Milliseconds
    prompt: Tokens = msgspec.field(name="in")
    output: Tokens = msgspec.field(name="out")
    h: list[tuple[BlockId, BlockId]] = []
    n: int | str = ""


class _MooncakeLine(msgspec.Struct):
    timestamp: Milliseconds
    input_length: Tokens
    output_length: Tokens
    hash_ids: list[BlockId] = []


def read_trace(name: str, lines: Iterable[str], *, most: int | None = None) -> Trace:
    """Read a trace, or its first `most` requests, whichever of the formats it has.

    Requests are put in the order of arrival, and have at least one prompt and one output token.

    Raises:
        ReplayError: it is in none of the formats, or a line is wrong, naming it.
    """
    numbered = enumerate(lines, start=1)
    first = next(((number, line) for number, line in numbered if line.strip()), None)
    if first is None:
        raise ReplayError(f"{name}: is empty")
    number, line = first
    rest = ((number, line) for number, line in numbered if line.strip())
    if not line.lstrip().startswith("{"):
        block, requests = 0, _azure(name, line, rest)
    elif '"meta"' in line:
        block = _decode(name, number, line, _Head).meta.block
        requests = _ours(name, block, rest)
    else:
        block = MOONCAKE_BLOCK_TOKENS
        requests = _mooncake(name, [first], rest)
    taken: list[TraceRequest] = []
    for request in requests:
        taken.append(request)
        if len(taken) == most:
            break
    if not taken:
        raise ReplayError(f"{name}: holds no request")
    taken.sort(key=lambda one: one.at_s)
    notes = () if len(taken) != most else (f"first {most} requests",)
    return Trace(name, block, tuple(taken), notes)


def _ours(name: str, block: int, lines: Iterable[tuple[int, str]]) -> Iterator[TraceRequest]:
    for number, text in lines:
        line = _decode(name, number, text, _Line)
        yield _request(
            line.t,
            line.prompt,
            line.output,
            ids=_run_ids(line, block),
            tenant=str(line.n),
            block=block,
        )


def _run_ids(line: _Line, block: int) -> Iterator[int]:
    """Ids of the prompt's full blocks, and no more: a run may name any number."""
    left = line.prompt // block if block else 0
    for first, last in line.h:
        stop = min(last + 1, first + left)
        yield from range(first, stop)
        left -= max(0, stop - first)


def _mooncake(
    name: str, first: list[tuple[int, str]], rest: Iterable[tuple[int, str]]
) -> Iterator[TraceRequest]:
    for part in (first, rest):
        for number, text in part:
            line = _decode(name, number, text, _MooncakeLine)
            yield _request(
                line.timestamp,
                line.input_length,
                line.output_length,
                ids=line.hash_ids,
                block=MOONCAKE_BLOCK_TOKENS,
            )


def _azure(name: str, header: str, lines: Iterable[tuple[int, str]]) -> Iterator[TraceRequest]:
    columns = [column.strip() for column in next(csv.reader([header]))]
    if missing := [column for column in AZURE_COLUMNS if column not in columns]:
        raise ReplayError(
            f"{name}: is neither JSON lines nor Azure's CSV, which has a column {missing[0]}"
        )
    start: datetime | None = None
    for number, text in lines:
        values = dict(zip(columns, next(csv.reader([text])), strict=False))
        try:
            at = datetime.fromisoformat(values["TIMESTAMP"].strip())
            prompt, output = _count(values, "ContextTokens"), _count(values, "GeneratedTokens")
            start = start or at
            milliseconds = (at - start).total_seconds() * 1e3
        except (KeyError, ValueError, TypeError) as error:
            raise ReplayError(f"{name}:{number}: not a line of Azure's trace: {error}") from error
        yield _request(milliseconds, prompt, output)


def _count(values: Mapping[str, str], column: str) -> int:
    count = int(values[column])
    if not 0 <= count <= MOST_TOKENS:
        raise ValueError(f"{column} is {count}")
    return count


def _request(
    milliseconds: float,
    prompt: int,
    output: int,
    *,
    ids: Iterable[int] = (),
    tenant: str = "",
    block: int = 0,
) -> TraceRequest:
    full = max(1, prompt) // block if block else 0
    return TraceRequest(
        milliseconds / 1e3, max(1, prompt), max(1, output), tuple(ids)[:full], tenant
    )


def _decode(name: str, number: int, line: str, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ReplayError(f"{name}:{number}: {error}") from error
