"""Real model servers, where there are any: `make test-real`.

POINTSMAN_REAL_VLLM        the vllm command; not said: `vllm` of the PATH
POINTSMAN_REAL_VLLM_MODEL  what it serves: a directory, or a name that it can get; small is best
POINTSMAN_REAL_VLLM_ARGS   further arguments of `vllm serve`

Two engines are started, the second with room for LoRA adapters. Without a command or a model the
tests are skipped, and say so.
"""

import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from support.polling import wait_until
from support.ports import free_port
from support.processes import Process, http_status

from pointsman_datalayer.core.prometheus_text import ExpositionReader

MODEL = "llama"
START_S = 240.0
"""An engine imports a gigabyte of libraries before it answers."""

PREFIX_HITS = "vllm:prefix_cache_hits_total"
PREFIX_QUERIES = "vllm:prefix_cache_queries_total"


@dataclass
class Engine:
    """One `vllm serve` on a port of its own."""

    process: Process
    port: int
    kv_port: int
    replay_port: int
    _reader: ExpositionReader = field(
        default_factory=lambda: ExpositionReader([PREFIX_HITS, PREFIX_QUERIES])
    )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        def answers() -> bool:
            assert self.process.alive(), self.process.output()[-2000:]
            return http_status(f"{self.url}/health") == 200

        wait_until(f"vLLM on port {self.port}", answers, timeout_s=START_S)

    def complete(self, prompt: str) -> int:
        """Tokens of the prompt, as the engine counts them."""
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 2, "temperature": 0}
        answer = httpx.post(f"{self.url}/v1/completions", json=body, timeout=60.0)
        answer.raise_for_status()
        return int(answer.json()["usage"]["prompt_tokens"])

    def cached_tokens(self) -> tuple[float, float]:
        """Prompt tokens found in the prefix cache so far, and those looked for."""
        page = httpx.get(f"{self.url}/metrics", timeout=20.0).content
        samples = self._reader.read(page).samples
        hits, queries = (
            sum(sample.value for sample in samples.get(name, []))
            for name in (PREFIX_HITS, PREFIX_QUERIES)
        )
        return hits, queries


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Engine]]:
    command = os.environ.get("POINTSMAN_REAL_VLLM") or shutil.which("vllm")
    model = os.environ.get("POINTSMAN_REAL_VLLM_MODEL")
    if not command or not model:
        pytest.skip(
            "no vLLM here: set POINTSMAN_REAL_VLLM (or have vllm on the PATH) "
            "and POINTSMAN_REAL_VLLM_MODEL"
        )
    logs = tmp_path_factory.mktemp("vllm")
    started: list[Engine] = []
    try:
        kinds: tuple[list[str], ...] = ([], ["--enable-lora", "--max-loras", "2"])
        started.extend(start(command, model, logs, arguments) for arguments in kinds)
        for engine in started:
            engine.wait()
        yield started
    finally:
        for engine in started:
            engine.process.kill()


def start(command: str, model: str, logs: Path, arguments: list[str]) -> Engine:
    port, kv_port, replay_port = free_port(), free_port(), free_port()
    events = (
        '{"enable_kv_cache_events":true,"publisher":"zmq",'
        f'"endpoint":"tcp://*:{kv_port}","replay_endpoint":"tcp://127.0.0.1:{replay_port}",'
        f'"topic":"kv@127.0.0.1:{port}@{MODEL}"}}'
    )
    line = [command, "serve", model, "--served-model-name", MODEL, "--host", "127.0.0.1"]
    line += ["--port", str(port), "--enforce-eager", "--max-model-len", "4096"]
    line += ["--enable-prefix-caching", "--kv-events-config", events, *arguments]
    line += shlex.split(os.environ.get("POINTSMAN_REAL_VLLM_ARGS", ""))
    process = Process("vllm", line, logs / f"{port}.log", {"VLLM_NO_USAGE_STATS": "1"})
    return Engine(process, port, kv_port, replay_port)
