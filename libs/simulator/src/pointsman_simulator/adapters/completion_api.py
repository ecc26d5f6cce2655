"""POST /v1/chat/completions and /v1/completions: from a body to an answer, whole or streamed.

A stream's headers leave at once and its first token after the prefill, as vLLM does. A client that
goes away cancels its handler, and that aborts the work in the engine.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import Sequence

from aiohttp import web

from pointsman_simulator.adapters.debug_api import Faults
from pointsman_simulator.adapters.engine_driver import EngineDriver
from pointsman_simulator.adapters.generation import Generation
from pointsman_simulator.adapters.json_body import decode_body
from pointsman_simulator.adapters.kv_event_publisher import PromptSource
from pointsman_simulator.adapters.openai_requests import (
    GenerationFields,
    chat_decoder,
    completion_decoder,
)
from pointsman_simulator.adapters.openai_responses import (
    CHAT,
    DONE,
    TEXT,
    ResponseEncoder,
    ResponseShape,
    Usage,
)
from pointsman_simulator.adapters.served_models import ServedModels
from pointsman_simulator.adapters.vllm_errors import bad_request, internal_error
from pointsman_simulator.core.engine_events import EngineRequest
from pointsman_simulator.core.engine_profile import EngineProfile
from pointsman_simulator.core.generated_text import GeneratedText
from pointsman_simulator.core.prompt_blocks import count_tokens, hash_blocks

SSE_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8"}


class CompletionApi:
    """The handlers of one server that generate text."""

    def __init__(
        self,
        driver: EngineDriver,
        models: ServedModels,
        profile: EngineProfile,
        faults: Faults,
        seed: int,
    ) -> None:
        self._driver, self._models, self._profile = driver, models, profile
        self._faults, self._seed = faults, seed
        self._serial = itertools.count()

    def routes(self) -> list[web.RouteDef]:
        """Return the paths served."""
        return [
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/completions", self.completions),
        ]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        await self._fail_if_told()
        body = decode_body(chat_decoder, await request.read())
        return await self._answer(request, CHAT, body, body.prompts())

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/completions."""
        await self._fail_if_told()
        body = decode_body(completion_decoder, await request.read())
        return await self._answer(request, TEXT, body, body.prompts())

    async def _fail_if_told(self) -> None:
        while self._faults.completions == "hang":
            await self._faults.hang()
        if self._faults.completions == "error500":
            raise internal_error()

    async def _answer(
        self,
        request: web.Request,
        shape: ResponseShape,
        fields: GenerationFields,
        prompts: Sequence[bytes],
    ) -> web.StreamResponse:
        model, lora = self._models.resolve(fields.model)
        fields.check()
        progress = asyncio.Event()
        generations = [self._generation(fields, prompt, lora, progress) for prompt in prompts]
        encoder = ResponseEncoder(
            shape,
            request_id=request.headers.get("x-request-id") or uuid.uuid4().hex[:16],
            created=int(time.time()),
            model=model,
        )
        try:
            for generation in generations:
                self._driver.submit(generation)
            if not fields.stream:
                return await self._whole(request, encoder, generations, progress)
            with_usage = fields.stream_options is not None and fields.stream_options.include_usage
            return await self._stream(request, encoder, generations, progress, bool(with_usage))
        finally:
            for generation in generations:
                self._driver.abort(generation)  # nothing, if it has finished

    def _generation(
        self, fields: GenerationFields, prompt: bytes, lora: str | None, progress: asyncio.Event
    ) -> Generation:
        prompt_tokens = count_tokens(prompt)
        text = GeneratedText(prompt, self._seed)
        longest = self._profile.longest_tokens
        room, limit = longest - prompt_tokens, fields.token_limit()
        if room < (limit or 1):
            raise bad_request(
                f"This model's maximum context length is {longest} tokens. However, you requested "
                f"{limit or 1} output tokens and your prompt contains {prompt_tokens} input tokens."
                " Please reduce the length of the input prompt or the number of requested output"
                " tokens.",
                "input_tokens",
            )
        natural = room if fields.ignore_eos else max(text.natural_length, fields.min_tokens or 0)
        return Generation(
            EngineRequest(
                request_id=str(next(self._serial)),
                prompt_tokens=prompt_tokens,
                output_tokens=limit or min(natural, room),
                block_hashes=hash_blocks(
                    prompt,
                    block_size=self._profile.block_size,
                    lora=lora,
                    cache_salt=fields.cache_salt or "",
                ),
                lora=lora,
                streamed=bool(fields.stream),
            ),
            text,
            "length" if limit or natural >= room else "stop",
            progress,
            PromptSource(prompt, lora, fields.cache_salt or ""),
        )

    async def _whole(
        self,
        request: web.Request,
        encoder: ResponseEncoder,
        generations: Sequence[Generation],
        progress: asyncio.Event,
    ) -> web.StreamResponse:
        while not all(generation.finished for generation in generations):
            await progress.wait()
            progress.clear()
        if self._faults.completions == "disconnect":
            return _disconnect(request, web.Response())
        answers = [generation.answer() for generation in generations]
        body = encoder.whole(answers, _usage(generations))
        return web.Response(body=body, content_type="application/json")

    async def _stream(
        self,
        request: web.Request,
        encoder: ResponseEncoder,
        generations: Sequence[Generation],
        progress: asyncio.Event,
        with_usage: bool,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=SSE_HEADERS)
        await response.prepare(request)
        under_way = dict(enumerate(generations))
        while under_way:
            await progress.wait()
            progress.clear()
            frames: list[bytes] = []
            for index, generation in list(under_way.items()):
                opening = generation.untouched
                if not (words := generation.take_words()):
                    continue  # the news is another prompt's
                if opening:
                    frames.append(encoder.opening_frame(index))
                reason = generation.finish_reason if generation.finished else None
                frames.append(encoder.token_frames(index, words, reason))
                if generation.finished:
                    del under_way[index]
            if not under_way:
                frames += [encoder.usage_frame(_usage(generations))] if with_usage else []
                frames.append(DONE)
            await response.write(b"".join(frames))
            if self._faults.completions == "disconnect":
                return _disconnect(request, response)
        await response.write_eof()
        return response


def _disconnect(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Drop the connection in the middle of the answer."""
    if request.transport is not None:
        request.transport.abort()
    return response


def _usage(generations: Sequence[Generation]) -> Usage:
    return Usage(
        prompt_tokens=sum(generation.request.prompt_tokens for generation in generations),
        cached_tokens=sum(generation.cached_tokens for generation in generations),
        completion_tokens=sum(generation.request.output_tokens for generation in generations),
    )
