"""A trace in real time: through Envoy and all layers, on simulated engines, by one policy."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
import httpx
import numpy as np
import yaml

from support.cpu_use import CpuMeter, CpuUse
from support.live_plan import POINTSMAN, UPSTREAM, LivePlan
from support.polling import wait_until
from support.processes import http_text, wait_ready
from support.whole_stack import WholeStack

LAST_ANSWERS_S = 60.0
"""Longest wait for answers after the last arrival."""

SETTING_OF = {UPSTREAM: "upstream", POINTSMAN: "cost"}
"""The scheduler's `default_policy`."""

TTFT_SUM, TTFT_COUNT, CACHE_HITS, CACHE_QUERIES = COUNTERS = (
    "vllm:time_to_first_token_seconds_sum",
    "vllm:time_to_first_token_seconds_count",
    "vllm:prefix_cache_hits_total",
    "vllm:prefix_cache_queries_total",
)


@dataclass(frozen=True)
class Answer:
    late_s: float
    """By which the request was sent after its time: the client had no CPU."""
    ttft_s: float = 0.0
    """From sending to the first byte of the answer, which engines hold back until it is a token."""
    problem: str = ""
    """Why it does not count as served."""


@dataclass(frozen=True)
class LiveRun:
    answers: Sequence[Answer]
    engine_ttft_s: float
    """Mean, as the engines report it: what is between client and engine is left out."""
    hit_ratio: float
    """Prompt tokens found in the engines' prefix caches, of all."""
    cpu: CpuUse = field(default_factory=CpuUse)

    @property
    def ttfts_s(self) -> list[float]:
        return [answer.ttft_s for answer in self.answers if not answer.problem]

    @property
    def problems(self) -> list[str]:
        return [answer.problem for answer in self.answers if answer.problem]

    @property
    def ttft_s(self) -> float:
        """Mean at the client."""
        return float(np.mean(self.ttfts_s)) if self.ttfts_s else float("nan")

    def percentile_s(self, percent: float) -> float:
        """Of the time to first token at the client."""
        return float(np.percentile(self.ttfts_s, percent)) if self.ttfts_s else float("nan")

    @property
    def late_p99_s(self) -> float:
        return float(np.percentile([answer.late_s for answer in self.answers], 99))


class LiveStage:
    """The stack of a plan. Each policy finds empty caches: the prompts of one are not the other's,
    and the scheduler is started anew. Everything else goes on."""

    def __init__(self, plan: LivePlan, folder: Path) -> None:
        """Starts everything; `folder` is made, for the logs."""
        self._plan = plan
        self._fresh = UPSTREAM
        """The policy of a scheduler that has served nobody yet; afterwards empty."""
        self._stack = WholeStack(
            folder,
            engines=plan.engines,
            engine_arguments=(
                *("--profile", plan.profile.name, "--time-factor", repr(plan.time_factor)),
                *("--block-size", str(plan.profile.block_size)),
            ),
            replicas={"scheduler": plan.schedulers},
            settings={
                # The replay admits every request at once.
                "flow_controller": {"flow_control": "off"},
                "scheduler": {"default_policy": SETTING_OF[self._fresh]},
            },
            manifests={"pool.yaml": _pool_manifest(plan.profile.block_size)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, policy: str) -> LiveRun:
        """Send the trace's requests at their times; returns when the last answer has ended."""
        self._use(policy)
        bodies = [
            _body(self._plan.prompt(number, policy), request.output_tokens)
            for number, request in enumerate(self._plan.trace.requests)
        ]
        before = self._counters()
        meter = CpuMeter(
            {process.pid: process.name for process in self._stack.processes}
            | {os.getpid(): "client"}
        )
        answers = asyncio.run(_play(self._plan, self._stack.url, bodies))
        cpu = meter.read()
        counted = {name: value - before[name] for name, value in self._counters().items()}
        return LiveRun(
            answers=answers,
            engine_ttft_s=counted[TTFT_SUM] / max(1.0, counted[TTFT_COUNT]),
            hit_ratio=counted[CACHE_HITS] / max(1.0, counted[CACHE_QUERIES]),
            cpu=cpu,
        )

    def _use(self, policy: str) -> None:
        if policy != self._fresh:
            for replica in self._stack.layers["scheduler"]:
                replica.process.replace({"SCHEDULER_DEFAULT_POLICY": SETTING_OF[policy]})
                wait_ready(replica.process, replica.admin)
        self._fresh = ""
        wait_until("an answer", self._answers)

    def _answers(self) -> bool:
        body = _body("Is anybody there?", 1)
        reply = httpx.post(f"{self._stack.url}/v1/completions", content=body, trust_env=False)
        return reply.status_code == 200

    def _counters(self) -> dict[str, float]:
        """Sums over the engines."""
        texts = [
            http_text(f"http://127.0.0.1:{port}/metrics", timeout_s=10.0)
            for port in self._stack.engine_ports
        ]
        return {name: _total(texts, name) for name in COUNTERS}


async def _play(plan: LivePlan, url: str, bodies: Sequence[bytes]) -> list[Answer]:
    loop = asyncio.get_running_loop()
    timeout = aiohttp.ClientTimeout(total=plan.trace.span_s + LAST_ANSWERS_S)
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=timeout, trust_env=False
        ) as session,
        asyncio.TaskGroup() as group,
    ):
        began_at = loop.time()
        tasks: list[asyncio.Task[Answer]] = []
        for request, body in zip(plan.trace.requests, bodies, strict=True):
            due_at = began_at + request.at_s
            await asyncio.sleep(max(0.0, due_at - loop.time()))
            tasks.append(group.create_task(_ask(session, url, body, due_at)))
        deadline_at = began_at + plan.trace.span_s + LAST_ANSWERS_S
        await asyncio.wait(tasks, timeout=deadline_at - loop.time())
        for task in tasks:
            task.cancel()  # no effect on those that are done
    return [_never_ended() if task.cancelled() else task.result() for task in tasks]


async def _ask(session: aiohttp.ClientSession, url: str, body: bytes, due_at: float) -> Answer:
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    first_at, end = 0.0, b""
    headers = {"content-type": "application/json"}
    try:
        async with session.post(f"{url}/v1/completions", data=body, headers=headers) as reply:
            async for chunk in reply.content.iter_any():
                first_at = first_at or loop.time()
                end = (end + chunk)[-200:]
    except (aiohttp.ClientError, TimeoutError) as error:
        return Answer(sent_at - due_at, problem=repr(error))
    if reply.status != 200 or not end.endswith(b"data: [DONE]\n\n"):
        return Answer(sent_at - due_at, problem=f"{reply.status} {end!r}")
    return Answer(sent_at - due_at, first_at - sent_at)


def _never_ended() -> Answer:
    return Answer(0.0, problem="no end of the answer within the run")


def _body(prompt: str, output_tokens: int) -> bytes:
    return json.dumps(
        {"model": "llama", "prompt": prompt, "max_tokens": output_tokens, "stream": True}
    ).encode()


def _total(texts: Sequence[str], name: str) -> float:
    """Sum of a series over the engines' metrics."""
    return sum(
        float(line.rpartition(" ")[2])
        for text in texts
        for line in text.splitlines()
        if line.startswith((f"{name}{{", f"{name} "))
    )


def _pool_manifest(block_tokens: int) -> str:
    annotations = {
        "pointsman.dev/served-models": "llama",
        "pointsman.dev/prefix-block-tokens": str(block_tokens),
    }
    return yaml.safe_dump(
        {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {"name": "llama", "namespace": "default", "annotations": annotations},
            "spec": {
                "selector": {"matchLabels": {"app": "llama"}},
                "targetPorts": [{"number": 8000}],
                "endpointPickerRef": {"name": "pointsman", "port": {"number": 9002}},
            },
        }
    )
