from pathlib import Path

import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.settings_loader import load_settings
from pointsman_scheduler.app import fallback_config
from pointsman_scheduler.core.config import COST_CONFIG, DEFAULT_POLICIES
from pointsman_scheduler.settings import SchedulerSettings

SHIPPED = Path(__file__).parents[3] / "deploy/config/scheduler.yaml"


def test_the_shipped_file_shows_every_key_at_its_default() -> None:
    loaded = load_settings(
        SchedulerSettings, prefix="SCHEDULER_", path=str(SHIPPED), environment={}
    )
    assert loaded == SchedulerSettings()
    text = SHIPPED.read_text()
    for key in SchedulerSettings.__struct_fields__:
        assert f"\n{key}:" in text


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("SCHEDULER_SEED", "-1", "seed"),
        ("SCHEDULER_DEFAULT_POLICY", "guess", "default_policy"),
        ("SCHEDULER_RECEIPTS_FRACTION", "1.5", "receipts_fraction"),
        ("SCHEDULER_PREFIX_INDEX_MAX_BLOCKS", "0", "prefix_index_max_blocks"),
        ("SCHEDULER_COLOUR", "red", "SCHEDULER_COLOUR"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(name: str, value: str, key: str) -> None:
    with pytest.raises(SettingsError, match=key):
        load_settings(SchedulerSettings, prefix="SCHEDULER_", environment={name: value})


def test_the_file_wins_over_the_default_policy(tmp_path: Path) -> None:
    assert fallback_config(SchedulerSettings()) == COST_CONFIG
    upstream = SchedulerSettings(default_policy="upstream")
    assert fallback_config(upstream) == DEFAULT_POLICIES["upstream"]
    path = tmp_path / "config.yaml"
    path.write_text("own")
    assert fallback_config(SchedulerSettings(endpoint_picker_config_path=str(path))) == "own"
    with pytest.raises(SettingsError, match="endpoint_picker_config_path"):
        fallback_config(SchedulerSettings(endpoint_picker_config_path=str(tmp_path / "none")))
