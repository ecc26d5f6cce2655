"""`explain`, `replay --receipt`, `config` and `shadow`, from their words to their output."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from google.protobuf import json_format

from pointsman_cli.__main__ import main
from pointsman_common.contracts.events_pb2 import RequestFinished
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt
from pointsman_common.testing.builders import an_endpoint, an_envelope
from pointsman_scheduler.core.candidate_sets import CandidateSets
from pointsman_scheduler.core.config import COST_CONFIG
from pointsman_scheduler.core.decision_receipt import draft_receipt
from pointsman_scheduler.core.receipt_messages import DatedDraft, ReceiptMessages
from pointsman_scheduler.testing import QK, Desk

Captured = pytest.CaptureFixture[str]


def a_receipt(config: str = QK, **fields: Any) -> DecisionReceipt:
    """As a scheduler publishes it: e2 has the shorter queue, e1 the emptier cache."""
    desk = Desk([an_endpoint(1, waiting=4), an_endpoint(2, kv=0.4)], config)
    pick = desk.picking.pick(desk.pick(**fields).descriptor, "l2", 1_000.0)
    dated = DatedDraft(draft_receipt(pick, 0.000_2), 1_700_000_000.0)
    message = ReceiptMessages(CandidateSets()).write([dated], envelope=an_envelope(), now=0.0)
    return DecisionReceipt.FromString(message)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "receipt.pb"
    path.write_bytes(a_receipt().SerializeToString())
    return path


@pytest.fixture
def datalayer() -> Iterator[str]:
    """A REST API with one pool and one decision, `desk-2` of request `r1`."""
    receipt = a_receipt()
    ended = RequestFinished(http_status=200, duration_ms=420, ttft_ms=31, cause="finished")
    document = {
        "receipt": json_format.MessageToDict(receipt, preserving_proto_field_name=True),
        "finished": json_format.MessageToDict(ended, preserving_proto_field_name=True),
    }
    answers = {
        "/v1/pools": {"pools": [{"pool": "default/other"}, {"pool": "default/llama"}]},
        "/v1/pools/default/other/decisions?limit=1": {"decisions": []},
        "/v1/pools/default/llama/decisions?limit=1": {
            "decisions": [{"decision_id": "desk-2", "decided_at": 1.0}]
        },
        "/v1/pools/default/llama/decisions/desk-2": document,
        "/v1/pools/default/llama/decisions/r1": document,
        "/settings": {"decisions_kept": 1000, "decisions_stored": 10_000},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path)
            body = json.dumps(answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("words", [["desk-2"], ["r1"], ["--last"]])
def test_a_decision_is_explained_by_its_id_its_request_or_as_the_last(
    datalayer: str, words: list[str], capsys: Captured
) -> None:
    assert main(["explain", *words, "--url", datalayer]) == 0
    said = capsys.readouterr().out
    assert "Request r1 of default-flow: llama, 100 prompt tokens" in said
    assert "It goes to 10.0.0.2:8000." in said
    assert "Against 10.0.0.1:8000, by +0.6: queue-scorer +1.000" in said
    assert "kv-cache-utilization-scorer -0.400" in said
    assert "In the end: answered 200, first token after 31 ms, over after 420 ms." in said
    rows = [line.split() for line in said.splitlines() if line.startswith("10.0.0.")]
    assert [row[0] for row in rows] == ["10.0.0.2:8000", "10.0.0.1:8000"]
    assert rows[0][-3:] == ["1.000", "0.600", "1.6"]


def test_an_unknown_id_says_where_was_looked_and_how_long_receipts_are_kept(
    datalayer: str, capsys: Captured
) -> None:
    assert main(["explain", "nobody", "--url", datalayer]) == 1
    said = capsys.readouterr().err
    assert "no decision or request 'nobody' in default/other, default/llama" in said
    assert "the last 1000 receipts" in said


def test_without_a_stack_an_id_or_a_datalayer_the_reason_is_said(
    tmp_path: Path, capsys: Captured
) -> None:
    where = ["--run-dir", str(tmp_path)]
    assert main(["explain", "d1", *where]) == 1
    assert "nothing runs in" in capsys.readouterr().err
    assert main(["explain", *where]) == 1
    assert "or --last" in capsys.readouterr().err
    assert main(["explain", "d1", "--url", "http://127.0.0.1:9"]) == 1
    assert "does not answer" in capsys.readouterr().err
    broken = tmp_path / "broken"
    for content in (b"\xff\xff", b"{", b'{"receipt": 3}'):
        broken.write_bytes(content)
        assert main(["explain", str(broken)]) == 1
    assert main(["shadow", "report", *where]) == 1
    assert "nothing runs in" in capsys.readouterr().err


def test_what_explain_writes_for_programs_is_read_again(
    datalayer: str, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["explain", "r1", "--url", datalayer, "--json"]) == 0
    saved = tmp_path / "receipt.json"
    saved.write_text(capsys.readouterr().out)
    assert main(["explain", str(saved)]) == 0
    assert "It goes to 10.0.0.2:8000." in capsys.readouterr().out


def test_a_cost_is_explained_in_seconds(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "receipt.pb"
    receipt = a_receipt(COST_CONFIG, block_hashes=range(100), prompt_tokens=6400)
    path.write_bytes(receipt.SerializeToString())
    assert main(["explain", str(path)]) == 0
    said = capsys.readouterr().out
    assert "The next best, 10.0.0." in said
    assert "would have cost" in said


def test_a_refusal_is_explained_too(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "receipt.pb"
    path.write_bytes(a_receipt(subset=[]).SerializeToString())
    assert main(["explain", str(path)]) == 0
    said = capsys.readouterr().out
    assert "Refused with 503" in said
    assert "The receipt tells no candidates." in said


def test_a_receipt_is_replayed_bit_for_bit(datalayer: str, stored: Path, capsys: Captured) -> None:
    for words in ([str(stored)], ["desk-2", "--url", datalayer]):
        assert main(["replay", "--receipt", *words]) == 0
        assert "the same, bit for bit: 10.0.0.2:8000" in capsys.readouterr().out
    assert main(["replay", "--receipt", str(stored), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == []


def test_a_receipt_that_was_tampered_with_does_not_replay(tmp_path: Path, capsys: Captured) -> None:
    receipt, path = a_receipt(), tmp_path / "receipt.pb"
    receipt.chosen[0].address = "10.0.0.9:8000"
    receipt.plugins[0].scores[0] += 1e-15
    path.write_bytes(receipt.SerializeToString())
    assert main(["replay", "--receipt", str(path)]) == 3
    said = capsys.readouterr().out
    assert "not the same: 10.0.0.2:8000; the receipt says 10.0.0.9:8000" in said
    assert "default/queue-scorer" in said
    receipt.inputs.columns = b""
    path.write_bytes(receipt.SerializeToString())
    assert main(["replay", "--receipt", str(path)]) == 2
    assert "cannot be replayed" in capsys.readouterr().err


def test_a_receipt_by_another_configuration_says_what_it_would_have_picked(
    stored: Path, tmp_path: Path, capsys: Captured
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(QK.replace("weight: 1.0", "weight: 0.1", 1))
    assert main(["replay", "--receipt", str(stored), "--config", str(other)]) == 0
    said = capsys.readouterr().out
    assert ": 10.0.0.2:8000" in said
    assert "it would be: 10.0.0.1:8000" in said
    assert "another choice on the same state" in said
    other.write_text("kind: Nonsense")
    assert main(["replay", "--receipt", str(stored), "--config", str(other)]) == 2
    assert "cannot be used" in capsys.readouterr().err
    assert main(["replay", "--config", str(other)]) == 2
    assert "--config goes with --receipt" in capsys.readouterr().err


def test_config_check_says_what_each_part_does(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(QK)
    assert main(["config", "check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "profile default" in said
    assert "Prefers the endpoints with the fewest requests waiting" in said
    assert "It can be used" in said
    path.write_text(QK.replace("queue-scorer", "no-such-scorer"))
    assert main(["config", "check", str(path)]) == 2
    assert "no plugin 'no-such-scorer'" in capsys.readouterr().err
    assert main(["config", "check", "upstream", "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    weights = {part["type"]: part["weight"] for part in parts if part["role"] == "scorer"}
    assert weights["prefix-cache-scorer"] == 3.0


def test_config_show_completes_and_diff_compares_what_is_complete(
    tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "config.yaml"
    assert main(["config", "show", "cost"]) == 0
    completed = capsys.readouterr().out
    assert "maxNumOfEndpoints: 3" in completed
    assert "prefillTokenSeconds: 4.5e-05" in completed
    assert "single-profile-handler" in completed
    path.write_text(completed)
    assert main(["config", "diff", "cost", str(path)]) == 0
    assert "they do the same" in capsys.readouterr().out
    path.write_text(completed.replace("maxNumOfEndpoints: 3", "maxNumOfEndpoints: 2"))
    assert main(["config", "diff", "cost", str(path)]) == 1
    [line] = capsys.readouterr().out.splitlines()
    assert line.endswith("max-score-picker.parameters.maxNumOfEndpoints: 3 -> 2")
