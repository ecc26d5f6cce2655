"""Traces from files, compressed or not."""

import gzip
import zlib
from pathlib import Path

from pointsman_replay.core.trace import ReplayError, Trace
from pointsman_replay.core.trace_formats import read_trace

GZIP_MAGIC = b"\x1f\x8b"
ENCODING = "utf-8-sig"


def read_trace_file(path: Path, *, most: int | None = None) -> Trace:
    """Read a trace, or its first `most` requests.

    Raises:
        ReplayError: it cannot be read, or is no trace.
    """
    name = path.name.removesuffix(".gz")
    for suffix in (".jsonl", ".csv"):
        name = name.removesuffix(suffix)
    try:
        with path.open("rb") as file:
            packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        open_text = gzip.open if packed else open
        with open_text(path, "rt", encoding=ENCODING) as lines:
            return read_trace(name, lines, most=most)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ReplayError(f"{path} cannot be read: {error}") from error
