"""`validate`: refuses requests that are too long, ask for too much, or are not of the form wanted.

Patterns run in time linear in the text (RE2), whatever they and the text are.
"""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import msgspec
import re2  # type: ignore[import-untyped]  # it ships no types
from jsonschema.protocols import Validator  # type: ignore[import-untyped]  # as above
from jsonschema.validators import (  # type: ignore[import-untyped]  # as above
    Draft202012Validator,
    extend,
    validator_for,
)
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from pointsman_common.errors import SettingsError
from pointsman_common.plugin_catalogue import PluginType
from pointsman_router.core.rules.rule import Refusal, Rule, RuleRequest

Limit = Annotated[int, msgspec.Meta(gt=0)] | None
MAX_SHOWN = 200
_OUTPUT_PARAM = {"openai-responses": "max_output_tokens"}


class RefusedPattern(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    pattern: str
    """RE2 syntax; found anywhere in a text of the prompt."""
    message: str = "the prompt holds what may not be asked"


class ValidateParameters(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """What is left out is not checked."""

    max_body_bytes: Limit = None
    max_prompt_tokens: Limit = None
    """By the router's estimate."""
    max_output_tokens: Limit = None
    """As asked for; a request that asks for no number passes."""
    max_choices: Limit = None
    """Answers to one prompt (`n`)."""
    allowed_models: tuple[str, ...] = ()
    """With `*` for anything."""
    required_headers: tuple[str, ...] = ()
    refuse_patterns: tuple[RefusedPattern, ...] = ()
    schema: dict[str, Any] | None = None
    """JSON Schema of the body. References to other documents are not followed."""


class Validate:
    def __init__(self, parameters: ValidateParameters) -> None:
        self._parameters = parameters
        self._patterns = [
            (_compiled(item.pattern, f"refusePatterns[{number}].pattern"), item.message)
            for number, item in enumerate(parameters.refuse_patterns)
        ]
        self._schema = None if parameters.schema is None else _validator(parameters.schema)

    def apply(self, request: RuleRequest) -> Refusal | None:
        """From the cheapest check to the dearest."""
        return (
            self._check_sizes(request)
            or self._check_names(request)
            or self._check_text(request)
            or self._check_schema(request)
        )

    def _check_sizes(self, request: RuleRequest) -> Refusal | None:
        limits, parsed = self._parameters, request.parsed
        if limits.max_body_bytes and len(request.body) > limits.max_body_bytes:
            why = f"the body has {len(request.body)} bytes; allowed are {limits.max_body_bytes}"
            return Refusal(http_status=413, message=why)
        for what, asked, most, param in (
            ("prompt tokens, estimated", parsed.prompt_tokens, limits.max_prompt_tokens, ""),
            (
                "output tokens",
                parsed.max_output_tokens,
                limits.max_output_tokens,
                _OUTPUT_PARAM.get(parsed.api, "max_tokens"),
            ),
            ("choices", parsed.choices, limits.max_choices, "n"),
        ):
            if most and asked > most:
                why = f"{asked} {what} are asked for; allowed are {most}"
                return Refusal(http_status=400, message=why, param=param)
        return None

    def _check_names(self, request: RuleRequest) -> Refusal | None:
        for name in self._parameters.required_headers:
            if not request.headers.get(name.lower()):
                return Refusal(http_status=400, message=f"the header {name} is missing")
        allowed = self._parameters.allowed_models
        if allowed and not any(fnmatchcase(request.model, pattern) for pattern in allowed):
            return Refusal(http_status=403, message="this model is not allowed here", param="model")
        return None

    def _check_text(self, request: RuleRequest) -> Refusal | None:
        if not self._patterns:
            return None
        for text in request.texts():
            for found, message in self._patterns:
                if found(text):
                    return Refusal(http_status=400, message=message)
        return None

    def _check_schema(self, request: RuleRequest) -> Refusal | None:
        if self._schema is None:
            return None
        try:
            error = next(iter(self._schema.iter_errors(request.json())), None)
        except RecursionError:
            return Refusal(http_status=400, message="the body is nested too deeply")
        if error is None:
            return None
        # The library's own message would repeat what the client wrote.
        where = error.json_path.removeprefix("$").lstrip(".")[:MAX_SHOWN]
        wanted = f"{error.validator}: {error.validator_value}"[:MAX_SHOWN]
        why = f"{where or 'the body'} does not satisfy {wanted}"
        line = "".join(c if c.isprintable() else " " for c in why)
        return Refusal(http_status=400, message=line, param=where)


def _compiled(pattern: str, key: str) -> Callable[[str], object]:
    options = re2.Options()
    options.log_errors = False
    try:
        search: Callable[[str], object] = re2.compile(pattern, options).search
    except re2.error as error:
        said = error.args[0]
        why = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise SettingsError(key, f"{why} (patterns are RE2's)") from error
    return search


def _validator(schema: dict[str, Any]) -> Validator:
    if _uses(schema, "patternProperties"):
        raise SettingsError("schema", "patternProperties is not supported")
    base = validator_for(schema, default=Draft202012Validator)
    try:
        base.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise SettingsError("schema", f"{error.json_path}: {error.message}"[:500]) from error
    _check_references(schema)
    patterns = {text: _compiled(text, "schema") for text in _patterns_of(schema)}

    def pattern(
        _validator: Validator, wanted: str, instance: object, _schema: Mapping[str, Any]
    ) -> Iterator[jsonschema.ValidationError]:
        if isinstance(instance, str) and not patterns[wanted](instance):
            yield jsonschema.ValidationError("does not match")

    kind = extend(base, {"pattern": pattern})
    # An empty registry: a schema's reference must not make the router fetch anything.
    return kind(schema, registry=Registry())


def _check_references(schema: dict[str, Any]) -> None:
    """A reference that leads nowhere would refuse every request, and only say so then."""
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    left = [(resource, Registry().resolver_with_root(resource))]
    while left:
        resource, resolver = left.pop()
        contents: object = resource.contents
        for keyword in ("$ref", "$dynamicRef"):
            if not isinstance(contents, dict) or not isinstance(contents.get(keyword), str):
                continue
            try:
                found = resolver.lookup(contents[keyword]).contents
            except Unresolvable:
                found = None
            if not isinstance(found, dict | bool):
                why = f"{keyword} {contents[keyword][:MAX_SHOWN]!r} is no schema of this document"
                raise SettingsError("schema", why)
        left += [(each, resolver.in_subresource(each)) for each in resource.subresources()]


def _uses(schema: object, keyword: str) -> bool:
    if isinstance(schema, dict):
        return keyword in schema or any(_uses(item, keyword) for item in schema.values())
    return isinstance(schema, list) and any(_uses(item, keyword) for item in schema)


def _patterns_of(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(text := schema.get("pattern"), str):
            yield text
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from _patterns_of(item)


def _build(_: str, parameters: Any) -> Rule:
    return Validate(parameters)


VALIDATE = PluginType(ValidateParameters, _build)
