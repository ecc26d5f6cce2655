"""What the coverage-guided fuzzer of `fuzz/` found, replayed."""

from pathlib import Path

import pytest

from wire.testing.fuzz_targets import TARGETS

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_the_fuzzer_kept_find_nothing(name: str) -> None:
    inputs = [*(CORPUS / name).iterdir()]
    assert inputs
    for path in inputs:
        TARGETS[name](path.read_bytes())


def test_the_corpus_stays_small() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert len(files) < 200
    assert sum(path.stat().st_size for path in files) < 300_000
