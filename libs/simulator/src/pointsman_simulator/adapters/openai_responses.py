"""What a client gets: bodies and SSE frames in vLLM's shape.

A stream has one frame a token. What is the same in all of them is encoded once per request, and a
frame is then three pieces of bytes; the words carry nothing that JSON would escape.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

FinishReason = Literal["stop", "length"]

FINGERPRINT = "vllm-0.32.0-simulator"
DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True):
    """One finished answer: its text and why it ended there."""

    text: str
    finish_reason: FinishReason


class Usage(msgspec.Struct, frozen=True):
    """Token counts of a request, all its prompts together."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    def body(self) -> dict[str, object]:
        """Return the API's `usage`."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


def _chat_choice(index: int, answer: Answer) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        "content": answer.text,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": [],
        "reasoning": None,
    }
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": None,
        "token_ids": None,
    }


def _text_choice(index: int, answer: Answer) -> dict[str, object]:
    return {
        "index": index,
        "text": answer.text,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": None,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
    }


class ResponseShape(msgspec.Struct, frozen=True, kw_only=True):
    """How one API looks."""

    id_prefix: str
    whole_object: str
    whole_choice: Callable[[int, Answer], dict[str, object]]
    chunk_object: str
    text_key: bytes  # from the choice's index to the text
    text_end: bytes  # after the text's quotes
    opening_choice: bytes | None  # from the choice's index on, in the frame before the first token


CHAT = ResponseShape(
    id_prefix="chatcmpl-",
    whole_object="chat.completion",
    whole_choice=_chat_choice,
    chunk_object="chat.completion.chunk",
    text_key=b',"delta":{"content":"',
    text_end=b"}",
    opening_choice=(
        b',"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
        b'"prompt_token_ids":null,"prompt_text":null}\n\n'
    ),
)

TEXT = ResponseShape(
    id_prefix="cmpl-",
    whole_object="text_completion",
    whole_choice=_text_choice,
    chunk_object="text_completion",
    text_key=b',"text":"',
    text_end=b"",
    opening_choice=None,
)


class ResponseEncoder:
    """Encodes the response to one request."""

    def __init__(self, shape: ResponseShape, *, request_id: str, created: int, model: str) -> None:
        self._shape = shape
        self._envelope = {"id": shape.id_prefix + request_id, "created": created, "model": model}
        head = _encode(self._body(shape.chunk_object))[:-1]
        self._frame_start = b"data: " + head + b',"choices":[{"index":'

    def opening_frame(self, index: int) -> bytes:
        """Return what precedes the first token of a stream: in a chat, the role."""
        opening = self._shape.opening_choice
        return b"" if opening is None else self._frame_start + b"%d" % index + opening

    def token_frames(
        self, index: int, words: Sequence[bytes], finish_reason: FinishReason | None
    ) -> bytes:
        """Return a frame for each word; with a finish reason the last of them ends the choice."""
        start = self._frame_start + b"%d" % index + self._shape.text_key
        middle = b'"' + self._shape.text_end + b',"logprobs":null,"finish_reason":'
        end = middle + b'null,"token_ids":null}]}\n\n'
        frames = [part for word in words for part in (start, word, end)]
        if finish_reason is not None:
            reason = b'"%b","stop_reason":null' % finish_reason.encode()
            frames[-1] = middle + reason + b',"token_ids":null}]}\n\n'
        return b"".join(frames)

    def usage_frame(self, usage: Usage) -> bytes:
        """Return the frame that a client asks for with `include_usage`."""
        body = self._body(self._shape.chunk_object)
        body |= {"choices": [], "usage": usage.body(), "system_fingerprint": FINGERPRINT}
        return b"data: " + _encode(body) + b"\n\n"

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        """Return the body of an answer that is not streamed."""
        shape = self._shape
        body = self._body(shape.whole_object)
        body |= {
            "choices": [shape.whole_choice(index, answer) for index, answer in enumerate(answers)],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": usage.body(),
            "kv_transfer_params": None,
        }
        return _encode(body)

    def _body(self, kind: str) -> dict[str, object]:
        envelope = self._envelope
        return {
            "id": envelope["id"],
            "object": kind,
            "created": envelope["created"],
            "model": envelope["model"],
        }
