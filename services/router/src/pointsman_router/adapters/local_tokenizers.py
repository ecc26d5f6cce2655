"""Turns prompts into the tokens that a model's engine makes of them, by the model's own tokenizer.

Only prompts that an engine tokenizes as they are: completions and embeddings. A conversation goes
through the engine's chat template first, which is not known here, so it stays an estimate.

Tokenizing costs some 0.4 µs for a byte, a hundred times all the rest, so it is done in threads (the
library lets go of the interpreter meanwhile), and bounded: what is too long, too late or one too
many goes on with the estimate.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pointsman_common.errors import SettingsError
from pointsman_common.structured_log import get_logger
from pointsman_router.core.request_parsers.prompt_text import token_bytes
from pointsman_router.core.request_router import RoutingDecision
from pointsman_router.metrics import Metrics

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = get_logger("tokenizers")

WAITING_PER_THREAD = 4
"""Requests that may wait for a thread; one more would wait longer than its tokens are worth."""


class LocalTokenizers:
    def __init__(
        self,
        tokenizers: "Mapping[str, Tokenizer]",
        metrics: Metrics,
        *,
        max_bytes: int,
        timeout_s: float,
        threads: int,
    ) -> None:
        """`tokenizers` are by the name of the model; prompts of more than `max_bytes` together are
        left alone, and so is a request whose tokens are not there after `timeout_s`."""
        self._tokenizers, self._metrics = tokenizers, metrics
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._most_open = threads * (1 + WAITING_PER_THREAD)
        self._open = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tokenizer")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def can_read(self, decision: RoutingDecision) -> bool:
        """Whether there is something to do, and room for it."""
        parsed = decision.parsed
        if not parsed.engine_tokenizes or decision.target_model not in self._tokenizers:
            return False
        if sum(map(len, parsed.prompts)) > self._max_bytes:
            self._metrics.tokenized.labels("too-long").inc()
            return False
        if self._open >= self._most_open:
            self._metrics.tokenized.labels("busy").inc()
            return False
        return True

    async def tokens(self, decision: RoutingDecision) -> Sequence[bytes] | None:
        """Each prompt's token ids as little-endian u32; `None`: the estimate has to do."""
        tokenizer, parsed = self._tokenizers[decision.target_model], decision.parsed
        job = self._threads.submit(
            _token_ids, tokenizer, parsed.prompts, special_tokens=parsed.special_tokens
        )
        work = asyncio.wrap_future(job)
        self._open += 1
        work.add_done_callback(self._done)
        try:
            # Shielded: a thread that has begun goes on, and counts as open until it ends.
            found = await asyncio.wait_for(asyncio.shield(work), self._timeout_s)
        except TimeoutError:
            self._metrics.tokenized.labels("timeout").inc()
            return None
        finally:
            job.cancel()
        self._metrics.tokenized.labels("failed" if found is None else "exact").inc()
        return found

    def _done(self, _: "asyncio.Future[list[bytes] | None]") -> None:
        self._open -= 1


def load_tokenizers(paths: Mapping[str, str]) -> "dict[str, Tokenizer]":
    """Load a tokenizer.json for each model.

    Raises:
        SettingsError: a file cannot be read, or the library is not installed.
    """
    if not paths:
        return {}
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415  (an extra that most routers do without)
    except ImportError as error:
        why = "needs the package tokenizers: install pointsman-router[tokenizer]"
        raise SettingsError("tokenizers", why) from error
    loaded: dict[str, Tokenizer] = {}
    by_path: dict[str, Tokenizer] = {}
    for model, path in paths.items():
        if path not in by_path:
            try:
                tokenizer = Tokenizer.from_file(path)
            except Exception as error:
                # The library raises a plain Exception for all that a file can have wrong.
                why = f"{path} is no tokenizer.json that can be read: {error}"
                raise SettingsError(f"tokenizers.{model}", why) from error
            # A file may carry these for training; engines count all tokens, and no padding.
            tokenizer.no_truncation()
            tokenizer.no_padding()
            by_path[path] = tokenizer
        loaded[model] = by_path[path]
    return loaded


def _token_ids(
    tokenizer: "Tokenizer", prompts: Sequence[bytes], *, special_tokens: bool
) -> list[bytes] | None:
    try:
        return [
            token_bytes(tokenizer.encode(prompt.decode(), add_special_tokens=special_tokens).ids)
            for prompt in prompts
        ]
    except BaseException as error:
        # Also what the library's own language raises, which is no Exception; the text may be in it.
        log.warning("prompt-not-tokenized", error=type(error).__name__)
        return None
