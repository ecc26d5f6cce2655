import pytest

from pointsman_common import CONTRACT_VERSION, __version__
from pointsman_common.identity import description, replica_id


def test_two_replicas_of_one_host_differ_and_name_their_layer_and_pod(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POD_NAME", "router-7d9f-abcde")
    one, other = replica_id("router"), replica_id("router")
    assert one != other
    assert one.startswith("router/router-7d9f-abcde/")
    monkeypatch.delenv("POD_NAME")
    assert replica_id("router").startswith("router/")


def test_a_reference_service_describes_itself() -> None:
    said = description("scheduler", "scheduler/a", capabilities=("candidates",), config_hash="h")
    assert (said.layer, said.name) == ("scheduler", "pointsman-scheduler")
    assert (said.contract_version, said.software_version) == (CONTRACT_VERSION, __version__)
    assert (list(said.capabilities), said.replica, said.config_hash) == (
        ["candidates"],
        "scheduler/a",
        "h",
    )
