"""What a parser tells of a request, and what a parser is."""

from abc import ABC, abstractmethod
from typing import Protocol

import msgspec


class ParsedRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part of a request's body that layers need."""

    api: str
    """`openai-chat`, `openai-completions` … or `passthrough`: a metric label."""
    model: str = ""
    """As the client asked; empty only where `names_model` is false."""
    names_model: bool = True
    """The body has a `model` that may be rewritten."""
    prompts: tuple[bytes, ...] = ()
    """Each prompt as the bytes that it is fingerprinted by: UTF-8 text, 4 bytes to a token, or
    token ids as little-endian u32. A longer conversation begins with the bytes of a shorter."""
    stream: bool = False
    max_output_tokens: int = 0
    """0: not asked."""
    choices: int = 0
    """Answers to the one prompt; 0 where the body does not say."""
    lora: str = ""
    """Adapter that the body names beside the model; empty: none."""
    cache_salt: str = ""
    token_ids: bool = False
    """The prompts are token ids, so that their number is exact."""
    engine_tokenizes: bool = False
    """The prompts are texts that the engine tokenizes as they are, without a template."""
    special_tokens: bool = True
    """Then it adds those that its tokenizer puts around a text."""
    model_at: tuple[int, int] | None = None
    """Bytes at which the model stands as it is; `None`: as the JSON value of `model`."""
    reports_usage: bool = True
    """The answer holds token usage."""

    @property
    def prompt_tokens(self) -> int:
        """Estimate: 4 bytes to a token, as upstream's estimating token producer has it."""
        prompts = self.prompts
        if len(prompts) == 1:
            return (len(prompts[0]) + 3) // 4
        return sum([(len(prompt) + 3) // 4 for prompt in prompts])


class RequestParser(Protocol):
    """Reads the bodies of one API."""

    @property
    def path_suffixes(self) -> tuple[str, ...]:
        """Ends of the paths that it reads; empty: it reads whatever no other parser does."""
        ...

    def parse(self, body: bytes) -> ParsedRequest:
        """Raises BadRequestError, naming the field at fault, where the body cannot be served."""
        ...


class FormParser(ABC):
    """Reads the forms (`multipart/form-data`) of one API."""

    path_suffixes: tuple[str, ...]

    @abstractmethod
    def parse_form(self, body: bytes, content_type: str) -> ParsedRequest:
        """Raises BadRequestError where the body cannot be served."""
