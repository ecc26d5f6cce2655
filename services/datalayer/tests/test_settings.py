"""The settings file shows every key at its default."""

from pathlib import Path

import msgspec
import pytest
import yaml

from pointsman_common.errors import SettingsError
from pointsman_common.settings_loader import load_settings
from pointsman_datalayer.settings import DatalayerSettings

SHOWN = Path(__file__).parents[3] / "deploy/config/datalayer.yaml"


def test_the_shown_settings_are_the_defaults_and_none_is_left_out() -> None:
    loaded = load_settings(DatalayerSettings, prefix="X_", path=str(SHOWN), environment={})
    assert loaded == DatalayerSettings()
    fields = {field.name for field in msgspec.structs.fields(DatalayerSettings)}
    assert yaml.safe_load(SHOWN.read_text()).keys() == fields


@pytest.mark.parametrize(
    ("key", "value"), [("scrape_interval_s", "0"), ("target_saturation", "2"), ("no_such", "1")]
)
def test_a_setting_that_cannot_be_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"(?i){key}"):
        load_settings(DatalayerSettings, prefix="X_", environment={f"X_{key.upper()}": value})
