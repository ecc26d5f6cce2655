"""What a client may ask: the fields of the OpenAI API that change what the simulator does.

All others are accepted and ignored, as the text is no model's anyway.
"""

from array import array
from collections.abc import Mapping, Sequence

import msgspec

from pointsman_simulator.adapters.vllm_errors import bad_request
from pointsman_simulator.core.chat_template import ChatMessage, render_chat

MAX_PROMPTS = 128
MAX_TOKEN_ID = 2**32 - 1


class StreamOptions(msgspec.Struct, frozen=True):
    """Asks for a last chunk with the usage."""

    include_usage: bool | None = None


class GenerationFields(msgspec.Struct, frozen=True, kw_only=True):
    """What chat and completions have in common. Absent and null are the same."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    n: int | None = None
    cache_salt: str | None = None

    def token_limit(self) -> int | None:
        """Return the most tokens to generate, if the client says."""
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens
        return self.max_tokens

    def check(self) -> None:
        """Refuse what cannot be served.

        Raises:
            ApiError: 400, naming the parameter.
        """
        limit, least = self.token_limit(), self.min_tokens or 0
        if limit is not None and limit < 1:
            raise bad_request(f"max_tokens must be at least 1, got {limit}.", "max_tokens")
        if least < 0:
            raise bad_request(f"min_tokens must be at least 0, got {least}.", "min_tokens")
        if limit is not None and least > limit:
            message = f"min_tokens must be less than or equal to max_tokens={limit}, got {least}."
            raise bad_request(message, "min_tokens")
        if self.n not in (None, 1):
            raise bad_request(f"n must be 1, got {self.n}.", "n")
        if self.stream_options is not None and not self.stream:
            message = "Stream options can only be defined when `stream=True`."
            raise bad_request(message, "stream_options")


class ChatRequest(GenerationFields, frozen=True, kw_only=True):
    """The body of POST /v1/chat/completions."""

    messages: list[ChatMessage]
    tools: Sequence[Mapping[str, object]] | None = None

    def prompts(self) -> list[bytes]:
        """Return the one rendered prompt."""
        return [render_chat(self.messages, self.tools)]


class CompletionRequest(GenerationFields, frozen=True, kw_only=True):
    """The body of POST /v1/completions."""

    prompt: str | list[str | int | list[int]]

    def prompts(self) -> list[bytes]:
        """Return the prompts: one, or several that are completed side by side.

        Raises:
            ApiError: 400 for none, too many, or kinds mixed.
        """
        prompt = self.prompt
        if isinstance(prompt, str):
            return [_text_bytes(prompt)]
        token_ids = [item for item in prompt if isinstance(item, int)]
        if token_ids and len(token_ids) == len(prompt):
            return [_token_bytes(token_ids)]
        if token_ids or not prompt or len({type(item) for item in prompt}) > 1:
            raise bad_request("prompt must be a string, strings, or lists of token ids.", "prompt")
        if len(prompt) > MAX_PROMPTS:
            raise bad_request(f"at most {MAX_PROMPTS} prompts, got {len(prompt)}.", "prompt")
        return [
            _text_bytes(item) if isinstance(item, str) else _token_bytes(item)
            for item in prompt
            if not isinstance(item, int)
        ]


chat_decoder = msgspec.json.Decoder(ChatRequest)
completion_decoder = msgspec.json.Decoder(CompletionRequest)


def _text_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _token_bytes(token_ids: list[int]) -> bytes:
    """Return four bytes a token, so that a token id counts as one token."""
    if not all(0 <= token <= MAX_TOKEN_ID for token in token_ids):
        raise bad_request("token ids must fit in 32 bits and not be negative.", "prompt")
    return array("I", token_ids).tobytes()
