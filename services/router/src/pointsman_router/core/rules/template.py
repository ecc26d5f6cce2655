"""Texts with fields: `You serve {{ tenant }}.`

A template is taken apart once, when the rule is read. Its fields are then filled in a single pass:
what is filled in is never looked at again, so a client cannot smuggle a field in.
"""

import re
from collections.abc import Collection, Mapping
from typing import Self

from pointsman_common.errors import SettingsError

_FIELD = re.compile(r"\{\{\s*([\w.\-]+)\s*\}\}")
HEADER = "header."

MAX_FIELD_CHARACTERS = 1024
"""Of a value that a client names, such as a header's."""


class Template:
    def __init__(self, literals: tuple[str, ...], fields: tuple[str, ...]) -> None:
        self._literals, self.fields = literals, fields

    @classmethod
    def parse(cls, text: str, *, known: Collection[str], key: str, headers: bool = True) -> Self:
        """Take a template apart. `key` names the parameter, `headers` allows `header.<name>`.

        Raises:
            SettingsError: a field that there is not, or braces that hold none.
        """
        pieces = _FIELD.split(text)
        literals, fields = tuple(pieces[::2]), tuple(pieces[1::2])
        for field in fields:
            if field not in known and not (headers and field.startswith(HEADER)):
                also = ", header.<name>" if headers else ""
                there = ", ".join(sorted(known))
                raise SettingsError(key, f"no field {field!r}; there are: {there}{also}")
        if any("{{" in literal for literal in literals):
            raise SettingsError(key, "`{{` without the name of a field and `}}`")
        return cls(literals, fields)

    def render(self, values: Mapping[str, str]) -> str:
        """The text with its fields filled in; one that has no value is empty."""
        pieces = [self._literals[0]]
        for field, literal in zip(self.fields, self._literals[1:], strict=True):
            pieces += (values.get(field, ""), literal)
        return "".join(pieces)


def shown(value: str) -> str:
    """A value of a client's as one bounded line."""
    return "".join(c if c.isprintable() else " " for c in value[:MAX_FIELD_CHARACTERS])
