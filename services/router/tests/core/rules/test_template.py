import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.errors import SettingsError
from pointsman_router.core.rules.template import Template, shown


def test_fields_are_filled_in() -> None:
    template = Template.parse("{{model}} for {{ header.x-Plan }}!", known={"model"}, key="text")
    assert template.render({"model": "m", "header.x-Plan": "free"}) == "m for free!"
    assert template.render({}) == " for !"


@pytest.mark.parametrize("text", ["{{ nobody }}", "{{", "a {{ }} b", "{{ model | upper }}"])
def test_what_is_no_field_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^text: "):
        Template.parse(text, known={"model"}, key="text")


def test_headers_may_be_forbidden() -> None:
    with pytest.raises(SettingsError, match=r"no field 'header\.x'"):
        Template.parse("{{ header.x }}", known=(), key="t", headers=False)


@given(value=st.text() | st.sampled_from(["{{ model }}", "{{tenant}}", "}}{{ model }}"]))
def test_what_is_filled_in_is_never_looked_at_again(value: str) -> None:
    template = Template.parse("<{{ tenant }}|{{ model }}>", known={"model", "tenant"}, key="t")
    assert template.render({"tenant": value, "model": "M"}) == f"<{value}|M>"


@given(value=st.text())
def test_what_a_client_says_is_one_bounded_line(value: str) -> None:
    line = shown(value * 300)
    assert (not line or line.isprintable()) and len(line) <= 1024
