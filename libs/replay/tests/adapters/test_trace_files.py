"""Traces from files."""

import gzip
from pathlib import Path

import pytest

from pointsman_replay.adapters.trace_files import read_trace_file
from pointsman_replay.core.trace import ReplayError

TEXT = '{"meta":{"block":16}}\n{"t":1,"in":20,"out":2,"h":[[3,3]]}\n'


def test_compressed_or_not_the_trace_is_the_same(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_text(TEXT)
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert read_trace_file(plain) == read_trace_file(packed)
    assert read_trace_file(plain).name == "a"


@pytest.mark.parametrize(
    "content", [b"\x1f\x8b\x08nonsense", b"\xff\xfe\xfd", gzip.compress(b"x", mtime=0)[:-6]]
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ReplayError, match=r"a\.jsonl cannot be read"):
        read_trace_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"none\.jsonl cannot be read"):
        read_trace_file(tmp_path / "none.jsonl")
