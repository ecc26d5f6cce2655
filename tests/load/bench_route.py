"""What routing one request costs: `python tests/load/bench_route.py [--json]`.

CPU time of the whole hook (bytes in, bytes out) and of its parts, as the least of several runs, in
microseconds. Budget: a 64 KB chat body in 400 µs. `json_us` is Python's own decoder on the same
body: what a machine that is slow or busy makes of something known.
"""

import argparse
import json
import sys
import timeit
from collections.abc import Callable
from random import Random
from time import process_time

from pointsman_common.clock import SystemClock
from pointsman_common.contracts.layer_pb2 import HeaderValue
from pointsman_common.contracts.routing_pb2 import RouteRequest
from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget
from pointsman_router.adapters.routing_rpc_server import RoutingHook
from pointsman_router.core.json_splice import replace_value
from pointsman_router.core.pool_routers import PoolRouters
from pointsman_router.core.prompt_fingerprint import block_hashes, chain_seed
from pointsman_router.core.request_parsers.openai_chat import OpenAiChatParser
from pointsman_router.metrics import Metrics

POOL = "default/llama"
HEADERS = {
    ":method": "POST",
    ":path": "/v1/chat/completions",
    ":authority": "gateway",
    "content-type": "application/json",
    "authorization": "Bearer x",
    "user-agent": "OpenAI/Python",
    "accept": "application/json",
    "x-request-id": "0b2c",
    "x-llm-d-inference-fairness-id": "tenant-1",
}
CANARY = ModelRule("canary", frozenset({"llama"}), (ModelTarget("a", 90), ModelTarget("b", 10)))


def chat(size: int, turns: int, *, words: list[str]) -> bytes:
    """A conversation of about `size` bytes of JSON."""
    rng, messages = Random(1), []
    for number in range(turns):
        text = ""
        while len(text) < size // turns - 50:
            text += rng.choice(words) + " "
        messages.append({"role": ("user", "assistant")[number % 2], "content": text})
    body = {"messages": messages, "model": "llama", "stream": True, "temperature": 0.7}
    return json.dumps(body, ensure_ascii=False).encode()


def a_hook(*rules: ModelRule) -> RoutingHook:
    routers = PoolRouters(
        None, max_prefix_blocks=2048, forwarded_headers=["x-session-id"], on_refused=print
    )
    routers.use(InferencePool(name=POOL, model_rules=rules))
    return RoutingHook(routers, SystemClock(), Metrics(), read_usage=True)


def microseconds(work: Callable[[], object], size: int) -> float:
    count = max(5, min(1000, 20_000_000 // size))
    runs = timeit.repeat(work, number=count, repeat=7, timer=process_time)
    return round(min(runs) / count * 1e6, 1)


def measure(body: bytes) -> dict[str, float]:
    message = RouteRequest(
        request_id="r",
        pool=POOL,
        headers=[HeaderValue(key=key, value=value.encode()) for key, value in HEADERS.items()],
        body=body,
        arrived_at=1.0,
    ).SerializeToString()
    parser, plain, rewriting = OpenAiChatParser(), a_hook(), a_hook(CANARY)
    prompts, seed, size = parser.parse(body).prompts, chain_seed("llama", ""), len(body)

    def fingerprint() -> object:
        return block_hashes(prompts, seed=seed, block_tokens=64, max_blocks=2048)

    return {
        "body_bytes": size,
        "json_us": microseconds(lambda: json.loads(body), size),
        "parse_us": microseconds(lambda: parser.parse(body), size),
        "fingerprint_us": microseconds(fingerprint, size),
        "splice_us": microseconds(lambda: replace_value(body, "model", "a"), size),
        "hook_us": microseconds(lambda: plain(message), size),
        "hook_rewriting_us": microseconds(lambda: rewriting(message), size),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    plain = ["routing", "token", "the", "a", "cache", "prefix\n", 'said "x"', "value"]
    found = {
        "500 B": measure(chat(500, 4, words=plain)),
        "1 KB": measure(chat(1 << 10, 4, words=plain)),
        "64 KB": measure(chat(1 << 16, 40, words=plain)),
        "64 KB, 300 turns": measure(chat(1 << 16, 300, words=plain)),
        "64 KB, not ASCII": measure(chat(1 << 16, 40, words=[*plain, "été"])),
        "1 MB": measure(chat(1 << 20, 100, words=plain)),
    }
    if arguments.parse_args().json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    for name, values in found.items():
        shown = "  ".join(f"{key} {value:g}" for key, value in values.items())
        sys.stdout.write(f"{name:18} {shown}\n")


if __name__ == "__main__":
    main()
