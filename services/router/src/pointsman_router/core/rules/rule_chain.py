"""The rules of one pool in their order: which apply, what each changes, what a failure means.

Pure: a rule that asks others makes the chain yield a RuleCall, which an adapter answers.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pointsman_common.errors import RequestError
from pointsman_router.core.flow_key import fairness_id_of
from pointsman_router.core.json_splice import applied
from pointsman_router.core.request_headers import (
    FAIRNESS_ID,
    FORBIDDEN,
    OBJECTIVE,
    RequestHeaders,
)
from pointsman_router.core.request_parsers.parsed_request import ParsedRequest
from pointsman_router.core.rules.callout import Callout, CalloutReply, RuleFailedError
from pointsman_router.core.rules.rule import (
    RULE_FAILED,
    Changes,
    Refusal,
    Rule,
    RuleOutcome,
    RuleRequest,
    RuleSteps,
)
from pointsman_router.core.rules.rule_match import RuleMatch

RuleResult = Literal["changed", "passed", "refused", "skipped", "failed"]
"""What a rule that matched has done: `skipped` and `failed` are failures by their `onFailure`."""


@dataclass(frozen=True, slots=True)
class ConfiguredRule:
    """A rule in its place."""

    name: str
    """`<policy>/<rule>`: a metric label."""
    match: RuleMatch
    rule: Rule
    skips: bool
    """A failure lets the request go on."""
    timeout_s: float
    """Of all that one request makes it ask."""
    concurrency: int
    """Most callouts at a time."""


@dataclass(frozen=True, slots=True)
class RuleCall:
    """A rule asks."""

    rule: ConfiguredRule
    callout: Callout


@dataclass(slots=True)
class RuleReport:
    """What the rules did to a request, for metrics."""

    results: list[tuple[str, RuleResult]] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    """Rule, kind of failure, and why."""


@dataclass(slots=True)
class Ruled:
    """A request that has passed the rules."""

    request: RuleRequest
    set_headers: dict[str, str] = field(default_factory=dict)
    remove_headers: set[str] = field(default_factory=set)


Parse = Callable[[RequestHeaders, bytes], ParsedRequest]
"""Reads a body again. Raises RequestError."""

ChainSteps = Generator[RuleCall, CalloutReply, Ruled | Refusal]


class RuleChain:
    def __init__(self, rules: Sequence[ConfiguredRule]) -> None:
        self.rules = tuple(rules)

    def run(self, request: RuleRequest, parse: Parse, report: RuleReport) -> ChainSteps:
        """Take a request through the rules; returns it as they leave it, or a refusal."""
        ruled = Ruled(request)
        for entry in self.rules:
            if not entry.match.matches(ruled.request):
                continue
            try:
                outcome: RuleOutcome | RuleSteps = entry.rule.apply(ruled.request)
                if isinstance(outcome, Generator):
                    outcome = yield from _asking(entry, outcome)
                if isinstance(outcome, Changes):
                    ruled = _changed(ruled, outcome, parse)
                _check(outcome)
            except RuleFailedError as error:
                report.failures.append((entry.name, error.kind, str(error)))
                outcome = _on_failure(entry, error.kind)
            except Exception as error:
                # A team's rule may raise anything; its message may hold the prompt.
                why = type(error).__name__
                report.failures.append((entry.name, RuleFailedError.ERROR, why))
                outcome = _on_failure(entry, RuleFailedError.ERROR)
            report.results.append((entry.name, _result(outcome)))
            if isinstance(outcome, Refusal):
                return outcome
        return ruled


class _Skipped(Changes):
    """A failure that is let go."""


_SKIPPED = _Skipped()


def _asking(
    entry: ConfiguredRule, steps: RuleSteps
) -> Generator[RuleCall, CalloutReply, RuleOutcome]:
    try:
        callout = next(steps)
        while True:
            try:
                reply = yield RuleCall(entry, callout)
            except RuleFailedError as error:
                callout = steps.throw(error)
            else:
                callout = steps.send(reply)
    except StopIteration as done:
        outcome: RuleOutcome = done.value
        return outcome


def _check(outcome: object) -> None:
    if outcome is not None and not isinstance(outcome, Changes | Refusal):
        raise TypeError("a rule answers Changes, a Refusal or None")


def _on_failure(entry: ConfiguredRule, kind: str) -> RuleOutcome:
    if entry.skips:
        return _SKIPPED
    if kind == RuleFailedError.UNSUITABLE:
        why = f"the rule {entry.name} cannot be applied to this request"
        return Refusal(http_status=400, message=why, reason=RULE_FAILED)
    status = 500 if kind == RuleFailedError.ERROR else 503
    return Refusal(
        http_status=status, message=f"the rule {entry.name} failed: {kind}", reason=RULE_FAILED
    )


def _result(outcome: RuleOutcome) -> RuleResult:
    if isinstance(outcome, Refusal):
        return "failed" if outcome.reason == RULE_FAILED else "refused"
    if isinstance(outcome, _Skipped):
        return "skipped"
    return "passed" if outcome is None else "changed"


def _changed(ruled: Ruled, changes: Changes, parse: Parse) -> Ruled:
    """The request after a rule. Raises RuleFailedError where what the rule asks for cannot be."""
    request = ruled.request
    headers, fairness_id, objective = request.headers, request.fairness_id, request.objective
    if changes.set_headers or changes.remove_headers:
        headers = _edited(headers, changes)
        touched = {name.lower() for name in (*changes.set_headers, *changes.remove_headers)}
        if not touched.isdisjoint(FAIRNESS_ID):
            fairness_id = fairness_id_of(headers.get(*FAIRNESS_ID))
        if not touched.isdisjoint(OBJECTIVE):
            objective = headers.get(*OBJECTIVE) or ""
    body = request.body if changes.body is None else changes.body
    body = applied(body, changes.splices) if changes.splices else body
    parsed = request.parsed
    if body != request.body:
        try:
            parsed = parse(headers, body)
        except RequestError as error:
            why = f"the body that it left is none: {error.message}"
            raise RuleFailedError(RuleFailedError.BAD_REPLY, why) from error
    # The model that counts is the one in the body, unless a rule has named another.
    model = changes.model or (parsed.model if parsed.model != request.parsed.model else "")
    after = replace(
        request,
        headers=headers,
        body=body,
        parsed=parsed,
        model=model or request.model,
        fairness_id=changes.fairness_id or fairness_id,
        objective=objective if changes.objective is None else changes.objective,
        sticky_key=changes.sticky_key or request.sticky_key,
    )
    removed = {name.lower() for name in changes.remove_headers}
    added = {name.lower(): value for name, value in changes.set_headers.items()}
    kept = {name: value for name, value in ruled.set_headers.items() if name not in removed}
    return Ruled(after, {**kept, **added}, (ruled.remove_headers | removed) - added.keys())


def _edited(headers: RequestHeaders, changes: Changes) -> RequestHeaders:
    for name in (*changes.set_headers, *changes.remove_headers):
        if not may_edit(name):
            why = f"the header {name[:100]!r} is not a rule's to change"
            raise RuleFailedError(RuleFailedError.BAD_REPLY, why)
    for name, value in changes.set_headers.items():
        if not value.isprintable() or len(value) > MAX_HEADER_CHARACTERS:
            why = f"the value of the header {name!r} is no line of at most {MAX_HEADER_CHARACTERS}"
            raise RuleFailedError(RuleFailedError.BAD_REPLY, why)
    return headers.edited(changes.set_headers, changes.remove_headers)


MAX_HEADER_CHARACTERS = 8192


def may_edit(name: str) -> bool:
    """Whether a rule may set or remove a header of the request."""
    lower = name.lower()
    plain = lower.replace("-", "").replace("_", "")
    return plain.isascii() and plain.isalnum() and lower not in FORBIDDEN
