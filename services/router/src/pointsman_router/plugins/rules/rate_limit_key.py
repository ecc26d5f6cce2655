"""`rate-limit-key`: whose request it is, which a client need not be trusted to say.

The fairness id names the flow that the flow controller is fair to and limits. It comes from the
first source that the request has: a header, a hash of its API key, or a claim of its JWT. Claims
are read, not verified: that is the gateway's work, which must come before.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.flow_key import DEFAULT_FLOW, fairness_id_of
from pointsman_router.core.request_headers import RequestHeaders
from pointsman_router.core.rules.rule import Changes, Refusal, Rule, RuleOutcome, RuleRequest

MAX_TOKEN_CHARACTERS = 16_384
_KEY_HEADERS = ("x-api-key", "api-key")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    type: Literal["header", "api-key-hash", "jwt-claim"]
    name: str = ""
    """Of the header or the claim."""


class Tenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    fairness_id: str
    objective: str = ""
    """Empty: as the request has it."""


class RateLimitKeyParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    sources: Annotated[tuple[Source, ...], msgspec.Meta(min_length=1)]
    """Asked in this order; the first that the request has counts."""
    tenants: Mapping[str, Tenant] = {}
    """What a source may say, to who that is; empty: what it says is the fairness id."""
    otherwise: Literal["anonymous", "client", "refuse"] = "anonymous"
    """Where no source is there, or none that `tenants` knows: one flow for all of them, what the
    client's own header says, or 401."""
    trust_objective: bool = True
    """False: the objective is the tenant's or none, whatever the client asks for."""


class RateLimitKey:
    def __init__(self, parameters: RateLimitKeyParameters) -> None:
        for number, source in enumerate(parameters.sources):
            if (source.type == "api-key-hash") == bool(source.name):
                why = "is needed for a header or a claim, and only there"
                raise SettingsError(f"sources[{number}].name", why)
        self._parameters = parameters

    def apply(self, request: RuleRequest) -> RuleOutcome:
        parameters = self._parameters
        said = _first(parameters.sources, request.headers)
        tenant: Tenant | None = None
        if said is not None:
            tenant = (
                parameters.tenants.get(said)
                if parameters.tenants
                else Tenant(fairness_id=fairness_id_of(said))
            )
        objective = None if parameters.trust_objective else ""
        if tenant is not None:
            return Changes(fairness_id=tenant.fairness_id, objective=tenant.objective or objective)
        if parameters.otherwise == "refuse":
            return Refusal(http_status=401, message="the request does not say whose it is")
        kept = "" if parameters.otherwise == "client" else DEFAULT_FLOW
        return Changes(fairness_id=kept, objective=objective)


def _first(sources: Sequence[Source], headers: RequestHeaders) -> str | None:
    for source in sources:
        if source.type == "header":
            said = headers.get(source.name.lower())
        elif source.type == "api-key-hash":
            said = _key_hash(headers)
        else:
            said = _claim(headers, source.name)
        if said:
            return said
    return None


def _bearer(headers: RequestHeaders) -> str:
    scheme, _, token = (headers.get("authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _key_hash(headers: RequestHeaders) -> str | None:
    key = _bearer(headers) or headers.get(*_KEY_HEADERS)
    # 64 bits of SHA-256: a name that is safe to show, and that nobody can choose.
    return f"key-{hashlib.sha256(key.encode()).hexdigest()[:16]}" if key else None


def _claim(headers: RequestHeaders, name: str) -> str | None:
    parts = _bearer(headers)[:MAX_TOKEN_CHARACTERS].split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = msgspec.json.decode(payload)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return None
    value = claims.get(name) if isinstance(claims, dict) else None
    return str(value) if isinstance(value, str | int) and value != "" else None


def _build(_: str, parameters: Any) -> Rule:
    return RateLimitKey(parameters)


RATE_LIMIT_KEY = PluginType(RateLimitKeyParameters, _build)
