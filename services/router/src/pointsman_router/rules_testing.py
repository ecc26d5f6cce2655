"""Runs rules on one request without a network or a clock: for the tests of those who write them.

tried = try_rules("rules: [{name: r, type: short-prompts}]", body, types={...})
assert tried.refusal is None and tried.body == body
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pointsman_common.inference_pool import InferencePool
from pointsman_common.plugin_catalogue import PluginType
from pointsman_common.strict_yaml import load_yaml
from pointsman_router.core.json_splice import applied
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.request_parsers.registry import ParserRegistry
from pointsman_router.core.request_router import RequestRouter, RoutingDecision
from pointsman_router.core.rules.callout import Callout, CalloutReply, RuleFailedError
from pointsman_router.core.rules.callout_access import CalloutAccess
from pointsman_router.core.rules.route_policy import parse_policy
from pointsman_router.core.rules.rule import Refusal, Rule
from pointsman_router.core.rules.rule_chain import RuleChain, RuleReport
from pointsman_router.plugins.rules.catalogue import rule_types

Answer = Callable[[Callout], bytes]
"""Stands for the services that rules ask; may raise RuleFailedError."""


@dataclass
class Tried:
    """What rules did to a request."""

    decision: RoutingDecision | None
    refusal: Refusal | None
    body: bytes
    """As it would be sent."""
    report: RuleReport
    asked: list[Callout] = field(default_factory=list)


class RulesUnderTest:
    """Rules that several requests go through, one after the other."""

    def __init__(
        self,
        policy: str,
        *,
        types: Mapping[str, PluginType[Rule]] | None = None,
        answer: Answer | None = None,
        access: CalloutAccess | None = None,
        pool: InferencePool | None = None,
    ) -> None:
        """`policy` is the `spec` of a RoutePolicy as YAML. Raises SettingsError where it is bad."""
        catalogue = {**rule_types(access or CalloutAccess()), **(types or {})}
        chain = RuleChain(parse_policy("test", load_yaml(policy), catalogue))
        self._router = RequestRouter(
            pool or InferencePool(name="default/llama"),
            ParserRegistry.from_config(None),
            max_prefix_blocks=2048,
            forwarded_headers=(),
            rules=chain,
        )
        self._answer = answer

    def send(
        self,
        body: bytes,
        *,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        now: float = 1_000.0,
    ) -> Tried:
        """Raises RequestError where the request is none, rules or not."""
        items = {":method": method, ":path": path, **(headers or {})}
        report, asked = RuleReport(), list[Callout]()
        steps = self._router.route_by_rules(
            RequestHeaders([(name, value.encode()) for name, value in items.items()]),
            body,
            bodiless=False,
            request_id="r1",
            now=now,
            report=report,
        )
        try:
            call = next(steps)
            while True:
                asked.append(call.callout)
                try:
                    if self._answer is None:
                        raise RuleFailedError(RuleFailedError.UNREACHABLE, "nobody answers here")
                    reply = self._answer(call.callout)
                except RuleFailedError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(CalloutReply(reply))
        except StopIteration as done:
            outcome: RoutingDecision | Refusal = done.value
        if isinstance(outcome, Refusal):
            return Tried(None, outcome, body, report, asked)
        return Tried(outcome, None, applied(body, outcome.splices), report, asked)


def try_rules(
    policy: str,
    body: bytes,
    *,
    types: Mapping[str, PluginType[Rule]] | None = None,
    answer: Answer | None = None,
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] | None = None,
) -> Tried:
    """Send one request through a policy's rules; see RulesUnderTest."""
    rules = RulesUnderTest(policy, types=types, answer=answer)
    return rules.send(body, path=path, headers=headers)
