"""Stands for many engines' metrics pages, at little cost: `python scrape_target.py BYTES`.

One process, one port; every page is the same exposition of vLLM's shape, built once. It writes its
port to its standard output, and ends when its standard input does.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import uvloop

PAGE_BYTES = 100_000

HISTOGRAMS = (
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
    "request_prompt_tokens",
    "request_generation_tokens",
    "iteration_tokens_total",
)
SETTINGS = {f"setting_{number}": "None" for number in range(40)}


def exposition(size: int) -> bytes:
    """About `size` bytes: what is wanted stands among what is not, as with vLLM."""
    label = 'engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"'
    info = ",".join(
        f'{key}="{value}"'
        for key, value in sorted(
            {**SETTINGS, "block_size": "16", "num_gpu_blocks": "27000"}.items()
        )
    )
    families = [
        ("process_start_time_seconds", "", "1.7e+09"),
        ("vllm:num_requests_running", label, "12.0"),
        ("vllm:num_requests_waiting", label, "3.0"),
        ("vllm:num_requests_waiting_by_reason", f'{label},reason="capacity"', "3.0"),
        ("vllm:kv_cache_usage_perc", label, "0.41"),
        ("vllm:prompt_tokens_total", label, "123456.0"),
        ("vllm:generation_tokens_total", label, "65432.0"),
    ]
    lines = [
        _family(name, [f"{name}{{{of}}} {value}" if of else f"{name} {value}"])
        for name, of, value in families
    ]
    last = [
        _family("vllm:cache_config_info", [f"vllm:cache_config_info{{{info}}} 1.0"]),
        _family(
            "vllm:lora_requests_info",
            [
                'vllm:lora_requests_info{max_lora="4",running_lora_adapters="a,b",'
                'waiting_lora_adapters=""} 1.7e+09'
            ],
        ),
    ]
    buckets = 20
    while sum(map(len, lines + last)) < size and buckets < 4000:
        name = f"vllm:{HISTOGRAMS[buckets % len(HISTOGRAMS)]}_{buckets // len(HISTOGRAMS)}"
        lines.append(
            _family(name, [f'{name}_bucket{{{label},le="{step}"}} {step}.0' for step in range(20)])
        )
        buckets += 1
    return "".join(lines + last).encode()


def _family(name: str, lines: list[str]) -> str:
    return f"# HELP {name} Of one engine.\n# TYPE {name} gauge\n" + "\n".join(lines) + "\n"


class Page(asyncio.Protocol):
    """Answers every request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self._seen = answer, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        while b"\r\n\r\n" in self._seen:
            _, _, self._seen = self._seen.partition(b"\r\n\r\n")
            self._transport.write(self._answer)


async def serve(size: int) -> None:
    body = exposition(size)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(body)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Page(head + body), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


@contextmanager
def page_server(size: int = PAGE_BYTES) -> Iterator[str]:
    """Address of a process that serves the pages."""
    with subprocess.Popen(
        [sys.executable, __file__, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        port = process.stdout.readline().strip()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
