"""A request through the whole stack is explained by its id, and its decision made again."""

from collections.abc import Iterator

import httpx
import pytest
from support.polling import wait_until
from support.whole_stack import POOL, WholeStack

from pointsman_cli.__main__ import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    with WholeStack(tmp_path_factory.mktemp("explain"), engines=2) as started:
        yield started


def ask(stack: WholeStack) -> str:
    """The id of the request, as the client is told it."""
    reply = httpx.post(
        f"{stack.url}/v1/completions",
        json={"model": "llama", "prompt": "why " * 300, "max_tokens": 3},
        timeout=30.0,
        trust_env=False,
    )
    assert reply.status_code == 200
    return str(reply.headers["x-request-id"])


def test_a_request_is_explained_by_its_id_and_its_decision_made_again(
    stack: WholeStack, capsys: Captured
) -> None:
    asked = [ask(stack) for _ in range(5)]

    def ended() -> bool:
        capsys.readouterr()
        main(["explain", asked[-1], "--url", stack.rest])
        return "In the end: answered 200" in capsys.readouterr().out

    wait_until("the receipt and the end of the request", ended)
    assert main(["explain", asked[-1], "--url", stack.rest, "--pool", POOL]) == 0
    said = capsys.readouterr().out
    assert f"Request {asked[-1]} of " in said
    for port in stack.engine_ports:
        assert f"127.0.0.1:{port}" in said
    for request_id in asked:
        assert main(["replay", "--receipt", request_id, "--url", stack.rest]) == 0
        assert "the same, bit for bit: 127.0.0.1:" in capsys.readouterr().out
    assert main(["explain", "--last", "--url", stack.rest, "--json"]) == 0
    assert '"endpoint_picker_config"' in capsys.readouterr().out
