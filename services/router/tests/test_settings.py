from pathlib import Path

import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.settings_loader import load_settings
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
