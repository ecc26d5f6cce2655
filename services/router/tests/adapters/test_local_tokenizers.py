"""Exact tokens, with a tokenizer that is made here: of each word one token, and one in front."""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import tokenizers as hugging_face

from pointsman_common.contract_codec import unpack_block_hashes
from pointsman_common.contracts import routing_pb2
from pointsman_common.contracts.layer_pb2 import HeaderValue
from pointsman_common.errors import SettingsError
from pointsman_common.inference_pool import InferencePool, ModelRule, ModelTarget
from pointsman_common.testing.virtual_clock import VirtualClock
from pointsman_common.testing.waiting import until
from pointsman_router.adapters.local_tokenizers import (
    WAITING_PER_THREAD,
    LocalTokenizers,
    load_tokenizers,
)
from pointsman_router.adapters.routing_rpc_server import RoutingHook
from pointsman_router.core.pool_routers import PoolRouters
from pointsman_router.core.prompt_fingerprint import block_hashes, chain_seed
from pointsman_router.core.request_parsers.prompt_text import token_bytes
from pointsman_router.metrics import Metrics

POOL, MODEL = "default/llama", "llama"
WORDS = ["[UNK]", "<s>", *"abcdefgh"]
RULE = ModelRule("InferenceModelRewrite/r", frozenset({"m"}), (ModelTarget(MODEL),))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = hugging_face.Tokenizer(
        hugging_face.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0])
    )
    tokenizer.pre_tokenizer = hugging_face.pre_tokenizers.Whitespace()
    tokenizer.post_processor = hugging_face.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    # What a file may carry from training, and no engine applies to a prompt.
    tokenizer.enable_truncation(max_length=5)
    tokenizer.enable_padding(length=16)
    found = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(found))
    return str(found)


class Tokenizing:
    """A hook whose pool has blocks of four tokens."""

    def __init__(self, path: str, *, max_bytes: int = 1000, timeout_s: float = 20.0) -> None:
        self.metrics = Metrics()
        self.tokenizers = LocalTokenizers(
            load_tokenizers({MODEL: path}),
            self.metrics,
            max_bytes=max_bytes,
            timeout_s=timeout_s,
            threads=1,
        )
        routers = PoolRouters(
            None, max_prefix_blocks=100, forwarded_headers=(), on_refused=lambda *_: None
        )
        pool = InferencePool(name=POOL, model_rules=(RULE,), prefix_block_tokens=4)
        routers.use(pool)
        self._hook = RoutingHook(
            routers, VirtualClock(), self.metrics, read_usage=True, tokenizers=self.tokenizers
        )

    async def told(
        self, body: Mapping[str, object], path: str = "/v1/completions"
    ) -> routing_pb2.RequestDescriptor:
        message = routing_pb2.RouteRequest(
            request_id="r",
            pool=POOL,
            headers=[
                HeaderValue(key=":method", value=b"POST"),
                HeaderValue(key=":path", value=path.encode()),
            ],
            body=json.dumps(body).encode(),
        )
        answer = self._hook(message.SerializeToString())
        answer = answer if isinstance(answer, bytes) else await answer
        return routing_pb2.RouteResponse.FromString(answer).routed.descriptor

    def counted(self, result: str) -> float:
        name = "pointsman_router_tokenized_requests_total"
        return self.metrics.registry.get_sample_value(name, {"result": result}) or 0.0


@pytest.fixture
def tokenizing(path: str) -> Iterator[Tokenizing]:
    made = Tokenizing(path)
    yield made
    made.tokenizers.close()


def hashes_of(*prompts: list[int]) -> tuple[int, ...]:
    found = block_hashes(
        [token_bytes(ids) for ids in prompts],
        seed=chain_seed(MODEL, ""),
        block_tokens=4,
        max_blocks=100,
    )
    return tuple(found)


async def test_a_completion_is_counted_and_fingerprinted_by_its_tokens(
    tokenizing: Tokenizing,
) -> None:
    told = await tokenizing.told({"model": "m", "prompt": "a b c d e f g"})
    assert (told.prompt_tokens, told.block_tokens, told.target_model) == (8, 4, MODEL)
    assert unpack_block_hashes(told.prompt_block_hashes) == hashes_of([1, 2, 3, 4, 5, 6, 7, 8])
    # A client that sends the tokens itself has the same fingerprint.
    same = await tokenizing.told({"model": MODEL, "prompt": [1, 2, 3, 4, 5, 6, 7, 8]})
    assert same.prompt_block_hashes == told.prompt_block_hashes
    assert tokenizing.counted("exact") == 1


async def test_special_tokens_are_left_out_where_the_client_says_so(tokenizing: Tokenizing) -> None:
    body = {"model": MODEL, "prompt": ["a b", "c"], "add_special_tokens": False}
    told = await tokenizing.told(body)
    assert told.prompt_tokens == 3
    assert unpack_block_hashes(told.prompt_block_hashes) == hashes_of([2, 3], [4])


async def test_embeddings_are_tokenized_and_chats_and_other_models_are_not(
    tokenizing: Tokenizing,
) -> None:
    told = await tokenizing.told({"model": MODEL, "input": "a b"}, "/v1/embeddings")
    assert told.prompt_tokens == 3
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "a b c d e f g h a b c"}]}
    assert (await tokenizing.told(chat, "/v1/chat/completions")).prompt_tokens == 7
    assert (await tokenizing.told({"model": "other", "prompt": "a b"})).prompt_tokens == 1


async def test_a_long_prompt_stays_an_estimate(path: str) -> None:
    short = Tokenizing(path, max_bytes=7)
    assert (await short.told({"model": MODEL, "prompt": "a b c d"})).prompt_tokens == 5
    assert (await short.told({"model": MODEL, "prompt": "a b c d "})).prompt_tokens == 2
    assert (short.counted("exact"), short.counted("too-long")) == (1, 1)
    short.tokenizers.close()


async def test_a_late_answer_and_one_request_too_many_stay_an_estimate(path: str) -> None:
    slow = Tokenizing(path, timeout_s=0.05)
    held, body = threading.Event(), {"model": MODEL, "prompt": "a b c d"}
    slow.tokenizers._threads.submit(held.wait, 30)  # the only thread has other work
    told = await asyncio.gather(*[slow.told(body) for _ in range(WAITING_PER_THREAD + 2)])
    assert [one.prompt_tokens for one in told] == [2] * len(told)
    assert (slow.counted("timeout"), slow.counted("busy")) == (WAITING_PER_THREAD + 1, 1)
    held.set()
    await until(lambda: slow.tokenizers._open == 0)
    slow.tokenizers.close()


async def test_a_prompt_that_the_tokenizer_fails_at_stays_an_estimate(
    tokenizing: Tokenizing, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def encode(self, *_: object, **__: object) -> None:
            raise BaseException("the prompt")

    monkeypatch.setitem(tokenizing.tokenizers._tokenizers, MODEL, Failing())
    assert (await tokenizing.told({"model": MODEL, "prompt": "a b c d"})).prompt_tokens == 2
    assert tokenizing.counted("failed") == 1


def test_a_file_that_is_none_stops_the_start_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"model": 1}')
    for name in ("missing.json", "bad.json"):
        with pytest.raises(SettingsError, match=name) as refused:
            load_tokenizers({"llama": str(tmp_path / name)})
        assert refused.value.key == "tokenizers.llama"


def test_without_the_library_the_start_says_what_to_install(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert load_tokenizers({}) == {}
    with pytest.raises(SettingsError, match=r"pointsman-router\[tokenizer\]"):
        load_tokenizers({MODEL: path})
