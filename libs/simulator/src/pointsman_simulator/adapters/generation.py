"""One answer under way: what the engine has produced of it and the writer has not taken yet."""

import asyncio

from pointsman_simulator.adapters.kv_event_publisher import PromptSource
from pointsman_simulator.adapters.openai_responses import Answer, FinishReason
from pointsman_simulator.core.engine_events import (
    EngineRequest,
    Event,
    Finished,
    FirstToken,
    Tokens,
)
from pointsman_simulator.core.generated_text import GeneratedText


class Generation:
    """The answer to one prompt. The engine's driver feeds it, one HTTP handler takes from it."""

    def __init__(
        self,
        request: EngineRequest,
        text: GeneratedText,
        finish_reason: FinishReason,
        progress: asyncio.Event,
        source: PromptSource | None = None,
    ) -> None:
        self.request = request
        self.source = source  # kept only where KV events tell the tokens
        self.cached_tokens = 0
        self.finished = False
        self._text = text
        self.finish_reason: FinishReason = finish_reason
        self.progress = progress  # shared by all prompts of one HTTP request
        self._produced = self._taken = 0

    def feed(self, event: Event) -> None:
        """Take an event of this request's and wake the handler."""
        if isinstance(event, Tokens):
            self._produced += event.count
        elif isinstance(event, FirstToken):
            self._produced = 1
            self.cached_tokens = event.cached_tokens
        elif isinstance(event, Finished):
            self._produced = event.output_tokens
            self.finished = True
        else:
            return  # a preemption is only felt as a pause
        self.progress.set()

    def take_words(self) -> list[bytes]:
        """Return the tokens produced since the last call."""
        token = self._text.token
        words = [token(index) for index in range(self._taken, self._produced)]
        self._taken = self._produced
        return words

    @property
    def untouched(self) -> bool:
        """Whether no token has been taken yet."""
        return self._taken == 0

    def answer(self) -> Answer:
        """Return the whole answer, once finished."""
        return Answer(self._text.text(self._produced), self.finish_reason)
