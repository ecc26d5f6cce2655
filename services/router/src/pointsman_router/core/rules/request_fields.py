"""The fields of a request that templates may name."""

from collections.abc import Iterable

from pointsman_router.core.rules.rule import RuleRequest
from pointsman_router.core.rules.template import HEADER, shown

FIELDS = frozenset(("model", "tenant", "objective", "path", "pool", "api", "request_id"))


def field_values(request: RuleRequest, fields: Iterable[str]) -> dict[str, str]:
    """The values of those of `fields` that are a request's, each as one bounded line."""
    return {field: shown(_value(request, field)) for field in fields}


def _value(request: RuleRequest, field: str) -> str:
    if field.startswith(HEADER):
        return request.headers.get(field.removeprefix(HEADER).lower()) or ""
    if field == "tenant":
        return request.fairness_id
    if field == "api":
        return request.parsed.api
    return str(getattr(request, field)) if field in FIELDS else ""
