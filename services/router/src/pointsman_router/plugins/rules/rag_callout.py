"""`rag-callout`: asks a retriever for passages about the last user turn, for the prompt.

→ POST {"query": "…", "top_k": 4, "model": "…", "tenant": "…"}
← {"passages": [{"text": "…", "source": "…"}, "…"]}
"""

from collections.abc import Generator, Mapping
from typing import Annotated, Any, Literal

import msgspec

from pointsman_common.errors import SettingsError
from pointsman_common.kubernetes_units import parse_duration_s
from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.rules.callout import CalloutReply, HttpCallout, RuleFailedError
from pointsman_router.core.rules.callout_access import CalloutAccess
from pointsman_router.core.rules.prompt_edit import with_system_text, with_user_text
from pointsman_router.core.rules.request_fields import FIELDS, field_values
from pointsman_router.core.rules.rule import Changes, Rule, RuleRequest
from pointsman_router.core.rules.template import Template
from pointsman_router.core.rules.ttl_cache import TtlCache


class RagCalloutParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    url: str
    """`http://` or `https://`."""
    headers: Mapping[str, str] = {}
    """Of the callout; a value may be `secret:<name>`."""
    top_k: Annotated[int, msgspec.Meta(ge=1, le=100)] = 4
    place: Literal["before-user", "after-user", "system"] = "before-user"
    """Where the text goes: into the last user turn, which leaves the beginning of the conversation
    as it was and so its cached prefix, or behind the system prompt."""
    template: str = "Use this context where it helps:\n{{ passages }}"
    passage_template: str = "[{{ index }}] {{ text }}"
    """Fields: index (from 1), text, source."""
    max_query_characters: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 4000
    """A longer turn is cut to its end, where questions stand."""
    max_context_characters: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 8000
    """Of all passages; those that do not fit as a whole are left out."""
    cache_entries: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 1000
    """Answers that are kept, by query and tenant; 0: none."""
    cache_ttl: str = "60s"


class _Passage(msgspec.Struct, frozen=True):
    text: str
    source: str = ""


class _Reply(msgspec.Struct, frozen=True):
    passages: list[str | _Passage]


_REPLY = msgspec.json.Decoder(_Reply)


class RagCallout:
    def __init__(self, parameters: RagCalloutParameters, access: CalloutAccess) -> None:
        self._parameters = parameters
        self._url = access.http_url(parameters.url, key="url")
        self._headers = access.headers(parameters.headers, key="headers")
        known = FIELDS | {"passages", "query"}
        self._template = Template.parse(parameters.template, known=known, key="template")
        if "passages" not in self._template.fields:
            raise SettingsError("template", "must have the field `passages`")
        self._passage = Template.parse(
            parameters.passage_template,
            known={"index", "text", "source"},
            key="passageTemplate",
            headers=False,
        )
        try:
            ttl_s = parse_duration_s(parameters.cache_ttl)
        except SettingsError as error:
            raise SettingsError("cacheTtl", error.why) from error
        self._cache: TtlCache[tuple[str, str, str], str] = TtlCache(
            capacity=parameters.cache_entries, ttl_s=ttl_s
        )

    def apply(self, request: RuleRequest) -> Generator[HttpCallout, CalloutReply, Changes | None]:
        """Raises RuleFailedError where the retriever's answer is none."""
        query = request.last_user_text()[-self._parameters.max_query_characters :].strip()
        if not query:
            return None
        # A retriever may answer tenants differently, so their answers are kept apart.
        key = request.fairness_id, request.model, query
        passages = self._cache.get(key, request.now)
        if passages is None:
            reply = yield self._question(request, query)
            passages = self._passages(reply.body)
            self._cache.put(key, passages, request.now)
        if not passages:
            return None
        values = field_values(request, self._template.fields)
        text = self._template.render({**values, "passages": passages, "query": query})
        api, body = request.parsed.api, request.body
        if self._parameters.place == "system":
            return Changes(splices=with_system_text(api, body, text, "append"))
        side: Literal["before", "after"] = (
            "before" if self._parameters.place == "before-user" else "after"
        )
        return Changes(splices=with_user_text(api, body, text, side))

    def _question(self, request: RuleRequest, query: str) -> HttpCallout:
        asked = {
            "query": query,
            "top_k": self._parameters.top_k,
            "model": request.model,
            "tenant": request.fairness_id,
        }
        # JSON may take six bytes for a character, and a reply holds more than the texts.
        most = 6 * self._parameters.max_context_characters * 4 + 65_536
        return HttpCallout(
            self._url, msgspec.json.encode(asked), self._headers, max_reply_bytes=most
        )

    def _passages(self, reply: bytes) -> str:
        try:
            found = _REPLY.decode(reply).passages
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            why = "the retriever's answer has no `passages`"
            raise RuleFailedError(RuleFailedError.BAD_REPLY, why) from error
        lines: list[str] = []
        room = self._parameters.max_context_characters
        for number, passage in enumerate(found[: self._parameters.top_k], 1):
            text, source = (passage, "") if isinstance(passage, str) else _parts(passage)
            line = self._passage.render({"index": str(number), "text": text, "source": source})
            if len(line) > room:
                continue
            room -= len(line) + 1
            lines.append(line)
        return "\n".join(lines)


def _parts(passage: _Passage) -> tuple[str, str]:
    return passage.text, passage.source


def rag_callout(access: CalloutAccess) -> PluginType[Rule]:
    def build(_: str, parameters: Any) -> Rule:
        return RagCallout(parameters, access)

    return PluginType(RagCalloutParameters, build)
