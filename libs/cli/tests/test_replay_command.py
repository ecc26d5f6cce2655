"""`pointsman replay` from its words to its output."""

import json
from pathlib import Path

import pytest

from pointsman_cli.__main__ import main

Captured = pytest.CaptureFixture[str]

QUICK = ["--requests", "60", "--replicas", "2", "--load", "0.8"]


def test_without_a_trace_conversations_are_generated(capsys: Captured) -> None:
    assert main(["replay", *QUICK]) == 0
    said = capsys.readouterr()
    assert "generated: 60 requests" in said.out
    for policy in ("round-robin", "upstream", "pointsman", "oracle"):
        assert f" {policy} " in said.out
        assert f"generated at 0.8 with {policy}: done" in said.err


def test_the_same_words_write_the_same_bytes(tmp_path: Path, capsys: Captured) -> None:
    pages: list[bytes] = []
    texts: list[str] = []
    for name in ("a.html", "b.html"):
        page = tmp_path / name
        words = ["replay", *QUICK, "--json", "--pickers", "2", "--bus-loss", "0.05"]
        assert main([*words, "--report", str(page)]) == 0
        pages.append(page.read_bytes())
        texts.append(capsys.readouterr().out)
    assert pages[0] == pages[1]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["conditions"]["pickers"] == 2


def test_a_trace_of_a_file_is_read_up_to_the_requests_asked_for(
    tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "mine.csv"
    rows = [f"2024-05-10 00:00:{second:02}.5,100,10" for second in range(60)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    words = ["replay", str(path), "--requests", "20", "--policy", "round-robin"]
    assert main([*words, "--load", "0.5"]) == 0
    assert "mine: 20 requests, 100/10 tokens in/out" in capsys.readouterr().out


@pytest.mark.parametrize("pool", ["follows the recommendation", "has all of them throughout"])
def test_the_digest_of_a_trace_is_a_table_and_a_page(
    pool: str, tmp_path: Path, capsys: Captured
) -> None:
    page = tmp_path / "digest.html"
    words = ["replay", "--digest", *QUICK, "--report", str(page)]
    fixed = ["--fixed-pool"] if "all" in pool else []
    assert main([*words, *fixed]) == 0
    said = capsys.readouterr().out
    assert f"the pool {pool}" in said
    assert "direction changes of the recommendation: 0 in all" in said
    assert page.read_text(encoding="utf-8").count("<svg") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.jsonl"], "none.jsonl cannot be read: [Errno 2]"),
        (["--policy", "best"], "no policy 'best'; there are: round-robin"),
        (["--policy", "oracle", "--policy", "oracle"], "'oracle' is asked for twice"),
        (["--policy", "x=none.yaml"], "policy x: none.yaml cannot be read"),
        (["--report", "none/out.html"], "none/out.html cannot be written"),
        (["--requests", "1"], "one request makes no load"),
        (["--fixed-pool"], "--fixed-pool goes with --digest"),
        (["--digest", "--report", "none/out.html"], "none/out.html cannot be written"),
        (["--digest", "--report", "a.html", "a.csv", "b.csv"], "a page of one trace"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_a_line(
    words: list[str], said: str, capsys: Captured
) -> None:
    assert main(["replay", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("pointsman replay: ")
    assert said in error


@pytest.mark.parametrize(
    "words",
    [
        ["--load", "0"],
        ["--load", "nan"],
        ["--load", "0.7,0.7"],
        ["--load", "x"],
        ["--replicas", "0"],
        ["--pickers", "-1"],
        ["--bus-loss", "1.5"],
        ["--scrape-ms", "0"],
        ["--bus-delay-ms", "inf"],
        ["--engine", "abacus"],
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_option(
    words: list[str], capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["replay", *words])
    assert end.value.code == 2
    assert f"argument {words[0]}: " in capsys.readouterr().err
