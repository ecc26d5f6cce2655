from pathlib import Path

import msgspec
import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.settings_loader import load_settings
from pointsman_flow_controller.app import policy_reader
from pointsman_flow_controller.settings import FlowControllerSettings

SHIPPED = Path(__file__).parents[3] / "deploy/config/flow-controller.yaml"


def test_the_shipped_file_shows_every_key_at_its_default() -> None:
    loaded = load_settings(
        FlowControllerSettings, prefix="FLOW_CONTROLLER_", path=str(SHIPPED), environment={}
    )
    assert loaded == FlowControllerSettings()
    text = SHIPPED.read_text()
    for field in FlowControllerSettings.__struct_fields__:
        assert f"\n{field}:" in text


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        ({"FLOW_CONTROLLER_QUEUE_TTL_S": "0"}, "queue_ttl_s"),
        ({"FLOW_CONTROLLER_BAND_CAPACITY_BYTES": "0"}, "band_capacity_bytes"),
        ({"FLOW_CONTROLLER_FLOW_CONTROL": "maybe"}, "flow_control"),
        ({"FLOW_CONTROLLER_NO_SUCH": "1"}, "FLOW_CONTROLLER_NO_SUCH"),
    ],
)
def test_a_bad_value_stops_the_start_with_its_key(environment: dict[str, str], key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(FlowControllerSettings, prefix="FLOW_CONTROLLER_", environment=environment)
    assert refused.value.key == key


@pytest.mark.parametrize("field", ["fairness_policy", "ordering_policy"])
def test_an_unknown_policy_stops_the_start(field: str) -> None:
    with pytest.raises(SettingsError, match="no-such-policy"):
        policy_reader(msgspec.convert({field: "no-such-policy"}, FlowControllerSettings), "")


def test_an_unusable_file_of_ones_own_stops_the_start() -> None:
    document = "{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, featureGates: [fly]}"
    with pytest.raises(SettingsError, match="fly"):
        policy_reader(FlowControllerSettings(), document)
