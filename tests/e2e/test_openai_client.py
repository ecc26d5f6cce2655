"""The unmodified `openai` client on a public trace, beside round-robin on the same requests."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest
from support.plain_gateway import start_round_robin
from support.processes import http_text
from support.traces import TraceRequest, conversation
from support.whole_stack import WholeStack

REQUESTS, CONCURRENCY, ENGINES = 1_000, 32, 6
# A cache that holds what this much of the trace says, as the ratio is about finding it again.
CACHE = ("--kv-tokens", "4000000")

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    folder = tmp_path_factory.mktemp("openai")
    with WholeStack(folder, engines=ENGINES, engine_arguments=CACHE) as started:
        yield started


@pytest.fixture
async def client(stack: WholeStack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai_client(stack.url) as opened:
        yield opened


def openai_client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=120)


async def test_chat_streams_and_answers_whole(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(
        model="llama", max_tokens=8, messages=[{"role": "user", "content": "Which way?"}]
    )
    assert whole.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 8
    stream = await client.chat.completions.create(
        model="llama",
        max_tokens=8,
        stream=True,
        messages=[{"role": "user", "content": "Which way?"}],
    )
    text = "".join(
        [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    )
    assert text == whole.choices[0].message.content


async def test_completions_and_models_and_an_adapter_work(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="llama-sql", prompt="SELECT", max_tokens=4)
    assert answer.choices[0].text
    listed = {model.id async for model in client.models.list()}
    assert {"llama", "llama-sql"} <= listed


async def test_an_unknown_model_is_the_clients_error(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.completions.create(model="nobody", prompt="x")


async def test_a_trace_is_served_whole_and_finds_twice_the_prefixes_of_round_robin(
    stack: WholeStack, tmp_path: Path
) -> None:
    requests = conversation(REQUESTS)
    assert await replay(stack.url, requests) == []
    with start_round_robin(tmp_path, engines=ENGINES, engine_arguments=CACHE) as plain:
        assert await replay(plain.url, requests) == []
        found, baseline = hit_ratio(stack.engine_ports), hit_ratio(plain.engine_ports)
    print(f"prefix hit ratio {found:.3f}, round-robin {baseline:.3f}")  # noqa: T201  (with pytest -s)
    assert found >= 2 * baseline


async def replay(url: str, requests: list[TraceRequest]) -> list[str]:
    """Send the requests in order, a third of each kind; returns the failures."""
    free, failures = asyncio.Semaphore(CONCURRENCY), list[str]()
    async with openai_client(url) as client:

        async def one(index: int, request: TraceRequest) -> None:
            tokens = max(1, min(request.output_tokens, 16))
            try:
                await ask(client, index, request.prompt(index), tokens)
            except Exception as error:
                failures.append(f"{index}: {error!r}")
            finally:
                free.release()

        async with asyncio.TaskGroup() as group:
            for index, request in enumerate(requests):
                await free.acquire()
                group.create_task(one(index, request))
    return failures


async def ask(client: openai.AsyncOpenAI, index: int, prompt: str, tokens: int) -> None:
    if index % 10 == 0:
        answer = await client.completions.create(model="llama", prompt=prompt, max_tokens=tokens)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == tokens
        return
    if index % 2:
        chat = await client.chat.completions.create(
            model="llama", max_tokens=tokens, messages=[{"role": "user", "content": prompt}]
        )
        assert chat.usage is not None
        assert chat.usage.completion_tokens == tokens
        return
    stream = await client.chat.completions.create(
        model="llama",
        max_tokens=tokens,
        stream=True,
        stream_options={"include_usage": True},
        messages=[{"role": "user", "content": prompt}],
    )
    counted = [chunk.usage.completion_tokens async for chunk in stream if chunk.usage]
    assert counted[-1:] == [tokens]


def hit_ratio(engine_ports: tuple[int, ...]) -> float:
    """Prompt tokens found in the engines' caches, of all that were looked for."""
    hits = queries = 0.0
    for port in engine_ports:
        for line in http_text(f"http://127.0.0.1:{port}/metrics").splitlines():
            value = line.rpartition(" ")[2]
            if line.startswith("vllm:prefix_cache_hits_total"):
                hits += float(value)
            elif line.startswith("vllm:prefix_cache_queries_total"):
                queries += float(value)
    return hits / queries
