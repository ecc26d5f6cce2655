"""Which requests a rule is for."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import translate

import msgspec

from pointsman_router.core.rules.rule import RuleRequest

Patterns = str | tuple[str, ...]


class MatchSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold, all of it. Each is one pattern or a list, of which one must match; `*` stands
    for anything, `?` for one character. What is left out matches everything."""

    model: Patterns = ()
    path: Patterns = ()
    header: Mapping[str, Patterns] = {}
    """By name; a header that is missing matches nothing."""
    objective: Patterns = ()
    tenant: Patterns = ()
    api: Patterns = ()
    pool: Patterns = ()


class RuleMatch:
    """A MatchSpec, ready to be asked."""

    def __init__(self, spec: MatchSpec) -> None:
        fields = {
            "model": spec.model,
            "path": spec.path,
            "objective": spec.objective,
            "fairness_id": spec.tenant,
            "pool": spec.pool,
        }
        self._fields = [(name, _compiled(given)) for name, given in fields.items() if given]
        self._headers = [
            (name.lower(), _compiled(given)) for name, given in spec.header.items() if given
        ]
        self._api = _compiled(spec.api) if spec.api else None

    def matches(self, request: RuleRequest) -> bool:
        for name, pattern in self._fields:
            if pattern.fullmatch(getattr(request, name)) is None:
                return False
        for name, pattern in self._headers:
            value = request.headers.get(name)
            if value is None or pattern.fullmatch(value) is None:
                return False
        return self._api is None or self._api.fullmatch(request.parsed.api) is not None


def _compiled(patterns: Patterns) -> re.Pattern[str]:
    given: Sequence[str] = (patterns,) if isinstance(patterns, str) else patterns
    return re.compile("|".join(translate(pattern) for pattern in given))
