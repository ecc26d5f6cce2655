from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pointsman_common.clock import SystemClock
from pointsman_common.errors import SettingsError
from pointsman_common.settings_loader import load_settings
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_ext_proc.app import compose, exchange_rules, lease_rules, sequence_rules
from pointsman_ext_proc.core.layer_sequence import Hop
from pointsman_ext_proc.settings import ExtProcSettings

EXAMPLE = Path(__file__).parents[3] / "deploy" / "config" / "ext-proc.yaml"


def test_the_example_shows_each_key_at_its_default() -> None:
    shown = yaml.safe_load(EXAMPLE.read_text())
    assert shown == msgspec.to_builtins(ExtProcSettings())
    loaded = load_settings(ExtProcSettings, prefix="EXT_PROC_", path=str(EXAMPLE), environment={})
    assert loaded == ExtProcSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXT_PROC_ROUTE_TIMEOUT_S", "0"),
        ("EXT_PROC_ROUTER_FAILURE", "failSometimes"),
        ("EXT_PROC_MAX_BODY_BYTES", "-1"),
        ("EXT_PROC_COMPLETION_SIGNAL", "smoke"),
        ("EXT_PROC_RPC_TRANSPORT", "pigeon"),
        ("EXT_PROC_NO_SUCH_KEY", "1"),
    ],
)
def test_a_bad_value_stops_the_start_and_names_its_key(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match="(?i)" + name.removeprefix("EXT_PROC_")) as raised:
        load_settings(ExtProcSettings, prefix="EXT_PROC_", environment={name: value})
    assert raised.value.key


def test_settings_become_the_rules_of_the_parts() -> None:
    settings = ExtProcSettings(
        scheduler_failure="failOpen", completion_signal="access-log", pick_timeout_s=3.0
    )
    rules = sequence_rules(settings)
    assert rules.fail_open == {Hop.PICK}
    assert rules.timeouts_s[Hop.PICK] == 3.0
    assert exchange_rules(settings).ends_in_access_log
    assert lease_rules(settings).ends_in_access_log


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listen_address", "0.0.0.0"),
        ("health_address", "0.0.0.0:9003,0.0.0.0:9004"),
        ("admin_address", "9090"),
        ("datalayer_url", "datalayer:9104"),
        ("router_url", "grpc://router"),
        ("scheduler_url", "grpc://a:1,http://b:2"),
    ],
)
async def test_an_address_that_is_none_stops_the_start_and_names_its_key(
    key: str, value: str
) -> None:
    given: dict[str, Any] = {key: value}
    settings = ExtProcSettings(**given)
    with pytest.raises(SettingsError, match=rf"^{key}: "):
        compose(settings, InMemoryBus(), SystemClock(), replica="ext-proc/test/1")
