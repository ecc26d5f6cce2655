"""`moderation-callout`: asks another service whether a prompt may be served.

    openai   → POST {"input": ["…", …], "model": "…"}
             ← {"results": [{"flagged": true, "categories": {…}}]}
    generic  → POST {"texts": ["…", …], "model": "…", "tenant": "…"}
             ← {"allowed": false, "reason": "…"}

`onFailure: fail` refuses where the service does not answer (fail closed), `skip` lets the request
go on (fail open).
"""

from collections.abc import Generator, Mapping
from typing import Annotated, Any, Literal

import msgspec

from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.rules.callout import CalloutReply, HttpCallout, RuleFailedError
from pointsman_router.core.rules.callout_access import CalloutAccess
from pointsman_router.core.rules.rule import Refusal, Rule, RuleRequest
from pointsman_router.core.rules.template import shown

MAX_SHOWN = 200


class ModerationCalloutParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    url: str
    headers: Mapping[str, str] = {}
    """Of the callout; a value may be `secret:<name>`."""
    form: Literal["openai", "generic"] = "generic"
    model: str = ""
    """Of the moderation, in OpenAI's form; empty: the service's own."""
    categories: tuple[str, ...] = ()
    """In OpenAI's form: only these are refused; empty: whatever is flagged."""
    texts: Literal["last-user", "all"] = "last-user"
    max_characters: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 100_000
    """A longer prompt is not judged, which is a failure: a part would say nothing of the rest."""
    status: Annotated[int, msgspec.Meta(ge=400, le=499)] = 400


class _Flagged(msgspec.Struct, frozen=True):
    flagged: bool
    categories: dict[str, bool | None] = {}


class _OpenAi(msgspec.Struct, frozen=True):
    results: Annotated[list[_Flagged], msgspec.Meta(min_length=1)]


class _Generic(msgspec.Struct, frozen=True):
    allowed: bool
    reason: str = ""


_OPENAI, _GENERIC = msgspec.json.Decoder(_OpenAi), msgspec.json.Decoder(_Generic)


class ModerationCallout:
    def __init__(self, parameters: ModerationCalloutParameters, access: CalloutAccess) -> None:
        self._parameters = parameters
        self._url = access.http_url(parameters.url, key="url")
        self._headers = access.headers(parameters.headers, key="headers")

    def apply(self, request: RuleRequest) -> Generator[HttpCallout, CalloutReply, Refusal | None]:
        """Raises RuleFailedError where the prompt is too long or the answer is none."""
        only_last = self._parameters.texts == "last-user"
        given = [request.last_user_text()] if only_last else request.texts()
        texts = [text for text in given if text]
        if not texts:
            return None
        if sum(map(len, texts)) > self._parameters.max_characters:
            raise RuleFailedError(RuleFailedError.UNSUITABLE, "the prompt is too long to judge")
        reply = yield HttpCallout(self._url, self._question(request, texts), self._headers)
        try:
            why = self._refused(reply.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            said = f"the moderation's answer is not of the form {self._parameters.form}"
            raise RuleFailedError(RuleFailedError.BAD_REPLY, said) from error
        if why is None:
            return None
        message = (
            f"refused by moderation: {shown(why)[:MAX_SHOWN]}" if why else "refused by moderation"
        )
        return Refusal(http_status=self._parameters.status, message=message)

    def _question(self, request: RuleRequest, texts: list[str]) -> bytes:
        if self._parameters.form == "openai":
            model = {"model": self._parameters.model} if self._parameters.model else {}
            return msgspec.json.encode({"input": texts, **model})
        return msgspec.json.encode(
            {"texts": texts, "model": request.model, "tenant": request.fairness_id}
        )

    def _refused(self, reply: bytes) -> str | None:
        """Why the prompt is refused; `None`: it is not."""
        if self._parameters.form == "generic":
            said = _GENERIC.decode(reply)
            return None if said.allowed else said.reason
        wanted = self._parameters.categories
        flagged = [result for result in _OPENAI.decode(reply).results if result.flagged]
        named = sorted(
            {
                name
                for result in flagged
                for name, is_so in result.categories.items()
                if is_so and (not wanted or name in wanted)
            }
        )
        if wanted and not named:
            return None
        return ", ".join(named) if flagged else None


def moderation_callout(access: CalloutAccess) -> PluginType[Rule]:
    def build(_: str, parameters: Any) -> Rule:
        return ModerationCallout(parameters, access)

    return PluginType(ModerationCalloutParameters, build)
