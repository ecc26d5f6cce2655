"""The plan of a stack, as plain data."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

from pointsman_cli.core.gateway_options import CompletionSignal
from pointsman_cli.core.stack_plan import (
    SOCKET_PATH_BYTES,
    Folders,
    Programs,
    StackOptions,
    StackPlan,
    needed_ports,
    plan_stack,
    sockets_fit,
)
from pointsman_datalayer.settings import DatalayerSettings
from pointsman_ext_proc.settings import ExtProcSettings
from pointsman_flow_controller.settings import FlowControllerSettings
from pointsman_router.settings import RouterSettings
from pointsman_scheduler.settings import SchedulerSettings

PROGRAMS = Programs(python="/py", envoy="/envoy", nats_server="/nats", redis_server="/redis")


def planned(options: StackOptions | None = None, **folders: str) -> StackPlan:
    options = options or StackOptions()
    ports = {name: 20_000 + index for index, name in enumerate(needed_ports(options))}
    where = Folders(**{"run": "/run/x", "sockets": "/run/x/sockets", **folders})
    return plan_stack(options, PROGRAMS, where, ports)


def settings_of(plan: StackPlan, service: str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load(plan.files[f"/run/x/config/{service}.yaml"])
    return settings


def test_parts_start_after_those_that_they_need() -> None:
    stages = {part.name: part.stage for part in planned().parts}
    assert {stages[name] for name in ("nats", "redis", "engine-1", "engine-3")} == {1}
    services = ("datalayer", "router", "flow-controller", "scheduler", "ext-proc")
    assert {stages[name] for name in services} == {2}
    assert stages["envoy"] == 3
    assert [part.stage for part in planned().parts] == sorted(stages.values())


def test_no_two_parts_share_an_address() -> None:
    parts = planned().parts
    assert len({part.address for part in parts}) == len(parts)
    assert len({part.probe.url for part in parts}) == len(parts)


def test_everything_listens_on_loopback() -> None:
    plan = planned()
    assert {urlsplit(part.probe.url).hostname for part in plan.parts} == {"127.0.0.1"}
    assert not [name for name, text in plan.files.items() if "0.0.0.0" in text]


@pytest.mark.parametrize(
    ("service", "kind"),
    [
        ("datalayer", DatalayerSettings),
        ("router", RouterSettings),
        ("flow-controller", FlowControllerSettings),
        ("scheduler", SchedulerSettings),
        ("ext-proc", ExtProcSettings),
    ],
)
def test_a_service_knows_every_setting_that_it_is_given(
    service: str, kind: type[msgspec.Struct]
) -> None:
    msgspec.convert(settings_of(planned(), service), kind, strict=True)


def test_each_layer_is_called_where_it_listens() -> None:
    plan = planned()
    edge = settings_of(plan, "ext-proc")
    for service, key in (
        ("router", "router_url"),
        ("flow-controller", "flow_controller_url"),
        ("scheduler", "scheduler_url"),
        ("datalayer", "datalayer_url"),
    ):
        assert settings_of(plan, service)["listen_address"] == edge[key]


def test_envoy_reads_the_endpoints_that_the_datalayer_writes() -> None:
    plan = planned()
    path = settings_of(plan, "datalayer")["envoy_eds_path"]
    assert path in plan.files  # Envoy wants it to exist
    assert path in plan.files["/run/x/config/envoy.yaml"]


def test_the_edge_and_envoy_agree_on_the_completion_signal() -> None:
    for signal in CompletionSignal:
        plan = planned(StackOptions(completion_signal=signal))
        assert settings_of(plan, "ext-proc")["completion_signal"] == signal
        logs = "HttpGrpcAccessLogConfig" in plan.files["/run/x/config/envoy.yaml"]
        assert logs is (signal is CompletionSignal.ACCESS_LOG)


def test_the_sample_pool_lists_the_engines_at_their_ports() -> None:
    plan = planned(StackOptions(engines=2))
    endpoints = yaml.safe_load(plan.files["/run/x/manifests/endpoints.yaml"])["endpoints"]
    listed = {f"{entry['address']}:{entry['port']}" for entry in endpoints}
    assert listed == {part.address for part in plan.parts if part.name.startswith("engine")}


def test_own_manifests_are_read_where_they_are() -> None:
    plan = planned(StackOptions(engines=0), manifests="/home/me/pools", pool="prod/chat")
    assert settings_of(plan, "datalayer")["manifests_path"] == "/home/me/pools"
    assert settings_of(plan, "ext-proc")["pool"] == "prod/chat"
    assert not [name for name in plan.files if "manifests" in name]
    assert plan.answer_probe is None


def test_the_users_ports_are_the_gateways_and_the_consoles() -> None:
    plan = planned(StackOptions(port=1234, console_port=1235))
    assert (plan.gateway, plan.console) == ("http://127.0.0.1:1234", "http://127.0.0.1:1235")
    assert settings_of(plan, "datalayer")["admin_address"] == "127.0.0.1:1235"


def test_sockets_fit_until_the_kernels_limit() -> None:
    room = SOCKET_PATH_BYTES - len("/flow-controller.sock")
    assert sockets_fit("/" + "x" * (room - 1))
    assert not sockets_fit("/" + "x" * room)


def test_the_same_input_gives_the_same_plan() -> None:
    def commands(plan: StackPlan) -> Mapping[str, tuple[str, ...]]:
        return {part.name: part.command for part in plan.parts}

    assert commands(planned()) == commands(planned())
    assert planned().files == planned().files
