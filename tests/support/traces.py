"""Requests of a public trace, as prompts; a trace of our own where none is at hand."""

import gzip
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK_TOKENS = 512
BYTES_PER_TOKEN = 4
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class TraceRequest:
    """Blocks are ids, chained: an id stands for its block and all before it."""

    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]

    def prompt(self, index: int) -> str:
        """Text of the right length whose prefix is shared exactly as the blocks are."""
        text = "".join(block_text(block) for block in self.blocks)
        missing = self.prompt_tokens * BYTES_PER_TOKEN - len(text)
        return text + words(f"tail {index}", max(missing, 8))


def block_text(block: int) -> str:
    return words(f"block {block}", BLOCK_TOKENS * BYTES_PER_TOKEN)


def words(seed: str, length: int) -> str:
    """Deterministic text of exactly `length` characters."""
    picker = random.Random(seed)
    unit = " ".join(f"{picker.getrandbits(24):06x}" for _ in range(64))
    return (f"{seed} " + unit * (length // len(unit) + 1))[:length]


def trace_path(name: str) -> Path | None:
    folder = Path(os.environ.get("POINTSMAN_TRACES", REPOSITORY / ".." / "shared" / "traces"))
    path = folder / f"{name}.jsonl.gz"
    return path if path.is_file() else None


def conversation(limit: int) -> list[TraceRequest]:
    """The first requests of Mooncake's conversation trace, or generated conversations."""
    path = trace_path("mooncake_conversation")
    if path is None:
        return list(generated_conversations(limit))
    found: list[TraceRequest] = []
    with gzip.open(path, "rt") as lines:
        next(lines)
        for line, _ in zip(lines, range(limit), strict=False):
            row = json.loads(line)
            blocks = [block for first, last in row["h"] for block in range(first, last + 1)]
            whole = row["in"] // BLOCK_TOKENS
            found.append(TraceRequest(row["t"] / 1e3, row["in"], row["out"], tuple(blocks[:whole])))
    return found


def generated_conversations(limit: int, *, seed: int = 7) -> Iterator[TraceRequest]:
    """Conversations whose turns repeat what was said, as the public trace's do: about a third of
    the requests go on with an earlier one, prompts are of 2,000 to 30,000 tokens."""
    picker = random.Random(seed)
    open_conversations: list[tuple[int, ...]] = []
    next_block = 1
    for index in range(limit):
        if open_conversations and picker.random() < 0.4:
            said = open_conversations.pop(picker.randrange(len(open_conversations)))
        else:
            said = (0,)
        more = picker.randint(3, 50 if len(said) == 1 else 8)
        said = (*said, *range(next_block, next_block + more))
        next_block += more
        open_conversations.append(said)
        yield TraceRequest(index * 0.3, len(said) * BLOCK_TOKENS + 100, 200, said)
