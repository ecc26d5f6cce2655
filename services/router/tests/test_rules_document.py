"""docs/rules.md cannot rot: its code is run as it is written there, against a real router."""

import asyncio
import contextlib
import importlib
import json
import os
import re
import runpy
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from pointsman_common.clock import SystemClock
from pointsman_common.contracts import routing_pb2
from pointsman_common.contracts.layer_pb2 import HeaderValue
from pointsman_common.inference_pool import InferencePool
from pointsman_common.strict_yaml import load_yaml
from pointsman_common.testing.waiting import until
from pointsman_router.adapters.routing_rpc_server import RoutingHook
from pointsman_router.adapters.rule_callouts import RuleCallouts
from pointsman_router.adapters.rule_entry_points import with_entry_points
from pointsman_router.core.pool_routers import PoolRouters
from pointsman_router.core.rules.callout import Callout, HttpCallout
from pointsman_router.core.rules.callout_access import CalloutAccess
from pointsman_router.core.rules.policy_book import PolicyBook
from pointsman_router.core.rules.route_policy import parse_policy
from pointsman_router.metrics import Metrics
from pointsman_router.plugins.rules.catalogue import rule_types
from pointsman_router.rules_testing import try_rules
from pointsman_router.settings import RouterSettings

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL))
POOL = "default/llama"
JSON = "application/json"
CHAT = '{"model":"llama","messages":[{"role":"user","content":"%s"}],"temperature":0.5}'


def test_the_document_shows_the_examples_as_they_are() -> None:
    for name in ("examples/rule_callout_fastapi.py", "examples/rule_callout_grpc.mjs"):
        assert BLOCKS[name] == (ROOT / name).read_text(encoding="utf-8")


def test_every_type_and_every_key_of_a_rule_is_in_the_tables() -> None:
    for name in rule_types(CalloutAccess()):
        assert f"| `{name}` |" in DOCUMENT
    for key in ("name", "type", "match", "onFailure", "timeout", "maxConcurrency", "parameters"):
        assert f"| `{key}` |" in DOCUMENT
    for name, kind in rule_types(CalloutAccess()).items():
        [row] = [line for line in DOCUMENT.splitlines() if line.startswith(f"| `{name}` |")]
        for key in kind.parameters.__struct_encode_fields__:
            assert key in row, f"{key} of {name}"


def test_the_example_of_a_retriever_finds_what_a_rule_then_places(tmp_path: Path) -> None:
    class Words:
        """Stands for the model: counts of the words that the test is about."""

        def encode(self, texts: list[str], **_: object) -> Any:
            words = ("tram", "dog", "late")
            return np.array([[text.lower().count(word) for word in words] for text in texts])

    example = runpy.run_path(str(ROOT / "examples" / "rag_retriever_fastapi.py"))
    (tmp_path / "book.txt").write_text(
        "Dogs pay half.\n\nThe late tram leaves at 23.\n\n\nRules.\n"
    )
    client = TestClient(example["retriever"](example["Paragraphs"](tmp_path / "book.txt", Words())))

    def answer(callout: Callout) -> bytes:
        assert isinstance(callout, HttpCallout)
        assert callout.url == "http://127.0.0.1:9303/search"
        reply = client.post("/search", content=callout.body, headers={"content-type": JSON})
        assert reply.status_code == 200, reply.text
        return reply.content

    tried = try_rules(BLOCKS["rag-rules.yaml"], (CHAT % "a late tram?").encode(), answer=answer)
    assert tried.report.failures == []
    said = "Use this context where it helps:\n[book.txt#1] The late tram leaves at 23."
    assert json.loads(tried.body)["messages"][0]["content"].startswith(said)


def test_the_manifest_of_the_document_is_a_policy() -> None:
    manifest = load_yaml(re.search(r"```yaml\n(apiVersion.*?)```", DOCUMENT, re.DOTALL)[1])  # type: ignore[index]  # there is one
    [rule] = parse_policy("p", manifest["spec"], rule_types(CalloutAccess()))
    assert (rule.name, rule.skips) == ("p/greeting", True)


def test_the_python_rule_and_its_test_run_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("my_rules", "test_my_rules"):
        (tmp_path / f"{name}.py").write_text(BLOCKS[f"{name}.py"])
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    tests = vars(importlib.import_module("test_my_rules"))
    found = [test for name, test in tests.items() if name.startswith("test_")]
    assert len(found) == 2
    for test in found:
        test()


class Routing:
    def __init__(self, rules: str, types: Mapping[str, str] | None = None) -> None:
        clock, metrics = SystemClock(), Metrics()
        self.callouts = RuleCallouts(
            clock, metrics, budget_s=20.0, circuit_failures=1000, circuit_open_s=1.0
        )
        catalogue = with_entry_points(rule_types(CalloutAccess()), types or {})
        routers = PoolRouters(
            None,
            max_prefix_blocks=10,
            forwarded_headers=(),
            on_refused=lambda *_: None,
            policies=PolicyBook(catalogue, lambda *_: None),
        )
        routers.use_own_rules("file", load_yaml(rules.replace("300ms", "20s")))
        routers.use(InferencePool(name=POOL))
        self.hook = RoutingHook(routers, clock, metrics, read_usage=True, callouts=self.callouts)

    async def send(self, text: str, **headers: str) -> routing_pb2.RouteResponse:
        items = {":method": "POST", ":path": "/v1/chat/completions", **headers}
        request = routing_pb2.RouteRequest(
            pool=POOL,
            body=(CHAT % text).encode(),
            headers=[
                HeaderValue(key=key.replace("_", "-"), value=value.encode())
                for key, value in items.items()
            ],
        )
        answer = self.hook(request.SerializeToString())
        reply = answer if isinstance(answer, bytes) else await answer
        return routing_pb2.RouteResponse.FromString(reply)


async def test_the_settings_of_the_document_put_the_rule_into_a_router(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_rules.py").write_text(BLOCKS["my_rules.py"])
    monkeypatch.delitem(sys.modules, "my_rules", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    given = load_yaml(BLOCKS["router.yaml"])
    settings = RouterSettings(rules=tuple(given["rules"]), rule_types=given["rule_types"])
    routing = Routing(json.dumps({"rules": settings.rules}), settings.rule_types)
    assert (await routing.send("hi")).routed.HasField("body_patch")
    assert (await routing.send("x" * 81)).rejection.message == "ask in at most 80 characters"


@contextlib.asynccontextmanager
async def started(*command: str, cwd: Path = ROOT) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def answers(url: str) -> None:
    """Wait until the service behind `url` answers a rule."""
    port = int(url.rpartition(":")[2].partition("/")[0])

    def listening() -> bool:
        return bool(seen)

    seen: list[int] = []

    async def knock() -> None:
        while not seen:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                seen.append(port)
            await asyncio.sleep(0.05)

    knocking = asyncio.create_task(knock())
    try:
        await until(listening, timeout_s=30.0)
    finally:
        knocking.cancel()
        await asyncio.wait([knocking])


def a_free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def test_the_fastapi_callout_serves_as_written() -> None:
    port = str(a_free_port())
    rules = BLOCKS["fastapi-rules.yaml"].replace("9301", port)
    routing = Routing(rules)
    try:
        async with started(sys.executable, "examples/rule_callout_fastapi.py", "--port", port):
            await answers(f"http://127.0.0.1:{port}/")
            plain = await routing.send("hi")
            assert plain.routed.descriptor.target_model == "llama"
            free = await routing.send("hi", x_plan="free")
            told = free.routed.descriptor
            assert (told.target_model, told.max_output_tokens) == ("llama-small", 256)
            assert free.routed.model_in_answer == "llama"
    finally:
        await routing.callouts.close()


async def test_the_grpc_callout_in_javascript_serves_as_written(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    packages = re.search(r"`npm install (.*?)`", DOCUMENT)
    assert packages is not None
    install = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--prefer-offline",
        *packages[1].split(),
    ]
    installing = await asyncio.create_subprocess_exec(
        *install, cwd=folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    if await asyncio.wait_for(installing.wait(), 100):
        pytest.skip("no npm registry is reachable")
    shutil.copy(ROOT / "examples" / "rule_callout_grpc.mjs", folder)
    port = str(a_free_port())
    routing = Routing(BLOCKS["grpc-rules.yaml"].replace("9302", port))
    command = ("node", "rule_callout_grpc.mjs", port, os.fspath(ROOT / "libs/common/proto"))
    try:
        async with started(*command, cwd=folder):
            await answers(f"grpc://127.0.0.1:{port}")
            told = (await routing.send("Do it, please.")).routed.descriptor
            assert told.fairness_id == "polite"
            told = (await routing.send("Do it.")).routed.descriptor
            assert told.fairness_id == "default-flow"
    finally:
        await routing.callouts.close()
