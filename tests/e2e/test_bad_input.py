"""What clients send wrong gets its 4xx through Envoy, in the OpenAI error form, and no engine is
touched. The gateway is Envoy, so some of it is refused there."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest
from support.processes import http_text
from support.whole_stack import WholeStack

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
DEEP = b'{"model":"llama","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    with WholeStack(tmp_path_factory.mktemp("input"), engines=1) as started:
        yield started


def completions_seen(stack: WholeStack) -> int:
    """Completion requests that reached the engine."""
    [port] = stack.engine_ports
    seen = json.loads(http_text(f"http://127.0.0.1:{port}/debug/requests"))
    return sum("completions" in entry["path"] for entry in seen["requests"])


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        (CHAT, b"{", 400, "error unmarshaling"),
        (CHAT, b"", 400, ""),
        (CHAT, b"[]", 400, ""),
        (CHAT, b'"llama"', 400, ""),
        (CHAT, b"null", 400, ""),
        (CHAT, b'{"messages":[{"role":"user","content":"x"}]}', 400, "model"),
        (CHAT, b'{"model":"","messages":[{"role":"user","content":"x"}]}', 400, "model"),
        (CHAT, b'{"model":7,"messages":[]}', 400, "model"),
        (CHAT, b'{"model":"llama"}', 400, "messages"),
        (CHAT, b'{"model":"llama","messages":[]}', 400, "messages"),
        (CHAT, b'{"model":"llama","messages":"x"}', 400, "messages"),
        (CHAT, b'{"model":"llama","messages":[{"role":"user","content":7}]}', 400, ""),
        (CHAT, b'{"model":"llama","messages":[{"role":"user","content":"\xff"}]}', 400, ""),
        (CHAT, DEEP, 400, ""),
        (COMPLETIONS, b'{"model":"llama"}', 400, "prompt"),
        (COMPLETIONS, b'{"model":"llama","prompt":{"a":1}}', 400, "prompt"),
        (COMPLETIONS, b'{"model":"llama","prompt":"x","stream":"yes"}', 400, "stream"),
        (COMPLETIONS, b'{"model":"llama","prompt":"x","max_tokens":"7"}', 400, "max_tokens"),
        (COMPLETIONS, b'{"model":"nobody","prompt":"x"}', 404, "nobody"),
    ],
)
def test_a_bad_body_is_refused_with_one_line_of_json(
    stack: WholeStack, path: str, body: bytes, status: int, says: str
) -> None:
    before = completions_seen(stack)
    reply = httpx.post(
        f"{stack.url}{path}", content=body, headers={"content-type": "application/json"}
    )
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"].startswith("application/json")
    assert "\n" not in reply.text.strip()
    error = reply.json()["error"]
    assert says in error["message"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert completions_seen(stack) == before


def test_a_body_over_the_limit_is_413(stack: WholeStack) -> None:
    before = completions_seen(stack)
    body = b'{"model":"llama","prompt":"' + b"x" * (33 << 20) + b'"}'
    reply = httpx.post(f"{stack.url}{COMPLETIONS}", content=body, timeout=60)
    assert reply.status_code == 413
    assert "32" in reply.json()["error"]["message"] or "33554432" in reply.text
    assert completions_seen(stack) == before


def test_a_body_just_under_the_limit_is_served(stack: WholeStack) -> None:
    body = b'{"model":"llama","max_tokens":1,"prompt":"' + b"x" * (20 << 20) + b'"}'
    reply = httpx.post(f"{stack.url}{COMPLETIONS}", content=body, timeout=60)
    # The engine itself may refuse so long a prompt; what matters is that it was asked.
    assert reply.status_code in (200, 400)
    assert reply.headers.get("x-simulator-endpoint")


def test_an_unknown_path_reaches_the_model_server_untouched(stack: WholeStack) -> None:
    reply = httpx.post(f"{stack.url}/foo", content=b"abc")
    assert reply.status_code == 404
    assert reply.headers.get("x-simulator-endpoint")


def test_a_clients_own_destination_and_control_headers_are_removed(stack: WholeStack) -> None:
    headers = {
        "x-gateway-destination-endpoint": "127.0.0.1:1",
        "x-gateway-destination-endpoint-subset": "127.0.0.1:1",
        "x-prefiller-host-port": "127.0.0.1:1",
        "x-llm-d-inference-fairness-id": "tenant",
        "x-request-id": "headers-check",
    }
    reply = httpx.post(
        f"{stack.url}{COMPLETIONS}",
        json={"model": "llama", "prompt": "x", "max_tokens": 1},
        headers=headers,
    )
    assert reply.status_code == 200
    [port] = stack.engine_ports
    seen = json.loads(http_text(f"http://127.0.0.1:{port}/debug/requests"))["requests"]
    got = {key.lower(): value for key, value in dict(seen[-1]["headers"]).items()}
    assert got.get("x-gateway-destination-endpoint") in (None, f"127.0.0.1:{port}")
    for name in list(headers)[1:4]:
        assert name not in got


def test_repeated_headers_do_not_confuse(stack: WholeStack) -> None:
    host, port = stack.url.removeprefix("http://").split(":")
    body = b'{"model":"llama","prompt":"x","max_tokens":1}'
    request = (
        b"POST /v1/completions HTTP/1.1\r\nhost: pool\r\ncontent-type: application/json\r\n"
        b"x-llm-d-inference-fairness-id: a\r\nx-llm-d-inference-fairness-id: b\r\n"
        b"x-request-id: one\r\nx-request-id: two\r\nconnection: close\r\n"
        + b"content-length: %d\r\n\r\n" % len(body)
        + body
    )
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(request)
        answer = b""
        while chunk := client.recv(65_536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 ")
