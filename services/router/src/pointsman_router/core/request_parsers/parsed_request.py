"""What a parser tells of a request, and what a parser is."""

from typing import Protocol

import msgspec


class ParsedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a request's body that layers need."""

    api: str
    """`openai-chat`, `openai-completions` … or `passthrough`: a metric label."""
    model: str = ""
    """As the client asked. Empty only where `names_model` is false."""
    names_model: bool = True
    """The body has a top-level `model`, which may be rewritten."""
    prompts: tuple[bytes, ...] = ()
    """Each prompt as the bytes that it is fingerprinted by: UTF-8 text, 4 bytes to a token, or
    token ids as little-endian u32. A longer conversation begins with the bytes of a shorter."""
    stream: bool = False
    max_output_tokens: int = 0
    """0: not asked."""
    cache_salt: str = ""
    reports_usage: bool = True
    """The answer holds token usage."""

    @property
    def prompt_tokens(self) -> int:
        """Estimate: 4 bytes to a token, as upstream's estimating token producer has it."""
        return sum((len(prompt) + 3) // 4 for prompt in self.prompts)


class RequestParser(Protocol):
    """Reads the bodies of one API."""

    @property
    def path_suffixes(self) -> tuple[str, ...]:
        """Ends of the paths that it reads; empty: it reads whatever no other parser does."""
        ...

    def parse(self, body: bytes) -> ParsedRequest:
        """Raises BadRequestError, naming the field at fault, where the body cannot be served."""
        ...
