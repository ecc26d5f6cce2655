"""What a rule is: what it sees of a request, and what it may answer."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from pointsman_router.core.json_splice import Splice
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.rules.callout import Callout, CalloutReply, RuleFailedError
from pointsman_router.core.rules.prompt_reading import last_user_text, texts

REJECTED_BY_RULE = "rejected-by-rule"
"""Value of the dropped-reason header where a rule refuses a request."""

RULE_FAILED = "rule-failed"
"""The same where a rule that may not fail has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRequest:
    """A request as the rules before this one left it. A rule reads it and never changes it."""

    request_id: str
    pool: str
    method: str
    path: str
    """Without its query."""
    headers: RequestHeaders
    parsed: ParsedRequest
    """What the parser of its API read: stream, token counts and so on."""
    body: bytes
    model: str
    """As asked, or as a rule has changed it; empty where the API names none."""
    fairness_id: str
    """The tenant: from the client's header, or from a rule; `default-flow` where there is none."""
    objective: str
    """Empty: none."""
    sticky_key: str = ""
    """Requests of one key keep their target model; empty: each is counted by itself."""
    now: float = 0.0
    """Monotonic seconds at which the request came."""
    read_json: Callable[[bytes], Any] = field(default=msgspec.json.decode, repr=False)

    def json(self) -> Any:
        """The whole body as Python values: costs more than all else here, so ask only if needed.

        Raises:
            RuleFailedError: the body is no JSON.
        """
        try:
            return self.read_json(self.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise RuleFailedError(RuleFailedError.UNSUITABLE, "the body is no JSON") from error

    def last_user_text(self) -> str:
        """The text of the last user turn, or of the prompt; empty where there is none."""
        return last_user_text(self.parsed.api, self.body)

    def texts(self) -> list[str]:
        """All text of the prompt, by message; without tools, pictures and sounds."""
        return texts(self.parsed.api, self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What becomes of a request. Whatever is left out stays as it is."""

    splices: tuple[Splice, ...] = ()
    """Changes to the body's bytes."""
    body: bytes | None = None
    """A whole new body; not together with splices."""
    set_headers: Mapping[str, str] = field(default_factory=dict)
    """Of the request that reaches the model server; lower-case names."""
    remove_headers: Sequence[str] = ()
    model: str = ""
    """To go on with, as if the client had asked for it."""
    fairness_id: str = ""
    objective: str | None = None
    sticky_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The request goes no further: this is what its client is told."""

    http_status: int
    """400–599."""
    message: str
    """One line for a person; never holds the prompt."""
    reason: str = REJECTED_BY_RULE
    """Value of the dropped-reason header."""
    param: str = ""
    """The field at fault; empty: none."""
    retry_after_s: int = 0
    """0: not told."""


RuleOutcome = Changes | Refusal | None
"""`None`: the request goes on as it is."""

RuleSteps = Generator[Callout, CalloutReply, RuleOutcome]
"""A rule that asks others: yields what it asks and is sent the replies."""


class Rule(Protocol):
    """One kind of opinion, with its parameters."""

    def apply(self, request: RuleRequest) -> RuleOutcome | RuleSteps:
        """Decide on one request, at once or in steps.

        It must not block, and holds nothing that grows without bound. What it raises is its
        failure: `onFailure` says whether the request is refused or goes on.
        """
        ...
