from pathlib import Path

import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.settings_loader import load_settings, shown_settings
from pointsman_router.settings import RouterSettings

SHIPPED = Path(__file__).parents[3] / "deploy/config/router.yaml"


def test_the_shipped_file_shows_every_key_at_its_default() -> None:
    loaded = load_settings(RouterSettings, prefix="ROUTER_", path=str(SHIPPED), environment={})
    assert loaded == RouterSettings()
    text = SHIPPED.read_text()
    for field in RouterSettings.__struct_fields__:
        assert f"\n{field}:" in text


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({"ROUTER_MAX_PREFIX_BLOCKS": "-1"}, "max_prefix_blocks"),
        ({"ROUTER_POOL_POLL_S": "0"}, "pool_poll_s"),
        ({"ROUTER_NO_SUCH": "1"}, "ROUTER_NO_SUCH"),
        ({"ROUTER_LOG_LEVEL": "loud"}, "log_level"),
    ],
)
def test_a_bad_value_stops_the_start_with_its_key(environment: dict[str, str], key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(RouterSettings, prefix="ROUTER_", environment=environment)
    assert refused.value.key == key


def test_rules_types_and_secrets_may_come_from_the_environment_and_secrets_stay_hidden() -> None:
    environment = {
        "ROUTER_CALLOUT_SECRET": "{key: Bearer k}",
        "ROUTER_RULE_TYPES": "{mine: 'my_rules:MINE'}",
        "ROUTER_RULES": "[{name: a, type: mine}]",
    }
    loaded = load_settings(RouterSettings, prefix="ROUTER_", environment=environment)
    assert loaded.callout_secret == {"key": "Bearer k"}
    assert loaded.rules == ({"name": "a", "type": "mine"},)
    assert "Bearer" not in str(shown_settings(loaded))
