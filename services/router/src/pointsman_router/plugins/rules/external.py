"""`external`: another service decides, in any language, over gRPC or as JSON over HTTP.

The contract is `RuleCallout` in rule_callout.proto; `docs/rules.md` shows how to write one.
"""

from collections.abc import Generator, Mapping
from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from pointsman_common.contracts import routing_pb2, rule_callout_pb2
from pointsman_common.contracts.layer_pb2 import Rejection
from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.json_splice import Splice, applied, set_members
from pointsman_router.core.request_parsers.json_body import MAX_UINT32
from pointsman_router.core.rules.callout import (
    Callout,
    CalloutReply,
    HttpCallout,
    RpcCallout,
    RuleFailedError,
)
from pointsman_router.core.rules.callout_access import CalloutAccess
from pointsman_router.core.rules.rule import (
    REJECTED_BY_RULE,
    Changes,
    Refusal,
    Rule,
    RuleOutcome,
    RuleRequest,
)
from pointsman_router.core.rules.template import shown

APPLY = "/pointsman.routing.v1.RuleCallout/Apply"
MAX_MESSAGE_CHARACTERS = 500
_UNREADABLE = (DecodeError, json_format.ParseError, msgspec.DecodeError, RecursionError)
MAX_REPLY_BYTES = 80 << 20
"""A reply may hold a whole body."""


class ExternalParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    url: str
    """`grpc://host:port`, `unix:///path`, `http://…` or `https://…`."""
    headers: Mapping[str, str] = {}
    """Of the callout over HTTP; a value may be `secret:<name>`."""
    send_headers: tuple[str, ...] = ()
    """Headers of the request that the service is shown."""
    send_body: bool = True
    """False: it is shown neither the body nor the last user turn."""


class External:
    def __init__(self, name: str, parameters: ExternalParameters, access: CalloutAccess) -> None:
        self._name, self._parameters = name, parameters
        self._http = parameters.url.startswith(("http://", "https://"))
        if self._http:
            access.http_url(parameters.url, key="url")
        else:
            access.rpc_url(parameters.url, key="url")
            if parameters.headers:
                raise SettingsError("headers", "are of callouts over HTTP")
        self._headers = access.headers(parameters.headers, key="headers")
        self._sent = [name.lower() for name in parameters.send_headers]

    def apply(self, request: RuleRequest) -> Generator[Callout, CalloutReply, RuleOutcome]:
        """Raises RuleFailedError where the answer is not one."""
        reply = yield self._question(request)
        return outcome_of(self._answer(reply.body), request.body)

    def _question(self, request: RuleRequest) -> Callout:
        asked = rule_callout_pb2.RuleRequest(
            request_id=request.request_id,
            pool=request.pool,
            rule=self._name,
            method=request.method,
            path=request.path,
            headers=request.headers.selected(self._sent),
            api=request.parsed.api,
            model=request.model,
            objective=request.objective,
            fairness_id=request.fairness_id,
            prompt_tokens=min(request.parsed.prompt_tokens, MAX_UINT32),
            max_output_tokens=request.parsed.max_output_tokens,
            stream=request.parsed.stream,
        )
        if self._parameters.send_body:
            asked.last_user_text = request.last_user_text()
            try:
                asked.body_text = request.body.decode()
            except UnicodeDecodeError:
                asked.body = request.body
        url = self._parameters.url
        if not self._http:
            return RpcCallout(url, APPLY, asked.SerializeToString(), MAX_REPLY_BYTES)
        text = json_format.MessageToJson(asked, preserving_proto_field_name=True, indent=None)
        return HttpCallout(url, text.encode(), self._headers, MAX_REPLY_BYTES)

    def _answer(self, reply: bytes) -> rule_callout_pb2.RuleResponse:
        try:
            if not self._http:
                return rule_callout_pb2.RuleResponse.FromString(reply)
            said = msgspec.json.decode(reply, type=dict[str, Any])
            answer = rule_callout_pb2.RuleResponse()
            json_format.ParseDict(said, answer, ignore_unknown_fields=True)
        except _UNREADABLE as error:
            raise _bad("it is no RuleResponse") from error
        return answer


def outcome_of(answer: rule_callout_pb2.RuleResponse, body: bytes) -> RuleOutcome:
    """What the service's answer means for a body. Raises RuleFailedError."""
    kind = answer.WhichOneof("outcome")
    if kind is None:
        return None
    if kind == "rejection":
        return _refusal(answer.rejection)
    changes = answer.changes
    patched, splices = _patched(changes, body)
    try:
        values = {item.key: item.value.decode() for item in changes.headers.set}
    except UnicodeDecodeError as error:
        raise _bad("the value of a header is not UTF-8") from error
    return Changes(
        splices=splices,
        body=patched,
        set_headers=values,
        remove_headers=tuple(changes.headers.remove),
        model=changes.model,
        fairness_id=changes.fairness_id,
        objective=changes.objective or None,
    )


def _patched(
    changes: rule_callout_pb2.RuleChanges, body: bytes
) -> tuple[bytes | None, tuple[Splice, ...]]:
    if changes.set and changes.HasField("body_patch"):
        raise _bad("it has both `set` and `body_patch`")
    if changes.set:
        return None, _members(changes.set, body)
    if not changes.HasField("body_patch"):
        return None, ()
    patch = changes.body_patch
    if patch.WhichOneof("patch") == "replacement":
        return patch.replacement, ()
    return applied(body, _checked(patch.splices, len(body))), ()


def _members(values: Mapping[str, str], body: bytes) -> tuple[Splice, ...]:
    given = {name: text.encode() for name, text in values.items()}
    for name, text in given.items():
        try:
            msgspec.json.decode(text, type=msgspec.Raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _bad(f"the value of {shown(name)[:100]!r} in `set` is no JSON") from error
    try:
        return set_members(body, given)
    except (msgspec.DecodeError, RecursionError) as error:
        why = "`set` needs a body that is a JSON object"
        raise RuleFailedError(RuleFailedError.UNSUITABLE, why) from error


def _checked(given: routing_pb2.SpliceList, size: int) -> list[Splice]:
    splices: list[Splice] = []
    at = 0
    for splice in given.splices:
        if splice.offset < at or splice.offset + splice.removed > size:
            raise _bad("its splices overlap, are not in order, or leave the body")
        at = splice.offset + splice.removed
        splices.append(Splice(splice.offset, splice.removed, splice.inserted))
    return splices


def _refusal(rejection: Rejection) -> Refusal:
    if not 400 <= rejection.http_status <= 599:
        raise _bad("the status of its rejection is not from 400 to 599")
    message = shown(rejection.message)[:MAX_MESSAGE_CHARACTERS]
    return Refusal(
        http_status=rejection.http_status,
        message=message or "refused by a rule",
        reason=shown(rejection.reason)[:100] or REJECTED_BY_RULE,
        param=shown(rejection.param)[:100],
        retry_after_s=rejection.retry_after_s,
    )


def _bad(why: str) -> RuleFailedError:
    return RuleFailedError(RuleFailedError.BAD_REPLY, f"the answer cannot be used: {why}")


def external(access: CalloutAccess) -> PluginType[Rule]:
    def build(name: str, parameters: Any) -> Rule:
        return External(name, parameters, access)

    return PluginType(ExternalParameters, build)
