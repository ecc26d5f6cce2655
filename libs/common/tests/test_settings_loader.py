from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.settings_loader import (
    Count,
    PositiveSeconds,
    load_settings,
    masked_url,
    shown_settings,
)

TOKEN, MASK = "t0p", "***"


class LayerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str = "grpc://router:9101"
    deadline_s: PositiveSeconds = 1.0


class RuleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    match: str = ""
    on_failure: str = "closed"


class DemoSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bus_url: str = "nats://nats:4222"
    queue_ttl_s: PositiveSeconds = 60.0
    capacity: Count = 10
    enabled: bool = False
    pools: tuple[str, ...] = ()
    labels: Annotated[tuple[str, ...], msgspec.Meta(max_length=3)] = ()
    seed: int | None = 7
    weights: dict[str, float] = {}
    router: LayerSettings = msgspec.field(default_factory=LayerSettings)
    spare: LayerSettings | None = None
    rules: tuple[RuleSettings, ...] = ()
    api_token: str = ""


def load(yaml: str = "", *, tmp_path: Path | None = None, **environment: str) -> DemoSettings:
    path = None
    if tmp_path is not None:
        (tmp_path / "demo.yaml").write_text(yaml, encoding="utf-8")
        path = str(tmp_path / "demo.yaml")
    return load_settings(DemoSettings, prefix="DEMO_", path=path, environment=environment)


def test_nothing_given_is_the_defaults() -> None:
    assert load() == DemoSettings()


def test_yaml_overrides_defaults_and_the_environment_overrides_yaml(tmp_path: Path) -> None:
    settings = load(
        "queue_ttl_s: 5\ncapacity: 3\n", tmp_path=tmp_path, DEMO_CAPACITY="4", OTHER_CAPACITY="9"
    )
    assert (settings.queue_ttl_s, settings.capacity) == (5.0, 4)


def test_the_environment_can_name_the_file_and_an_argument_overrides_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("capacity: 1")
    (tmp_path / "b.yaml").write_text("capacity: 2")
    environment = {"DEMO_CONFIG": str(tmp_path / "a.yaml")}
    named = load_settings(DemoSettings, prefix="DEMO_", environment=environment)
    assert named.capacity == 1
    told = load_settings(
        DemoSettings, prefix="DEMO_", path=str(tmp_path / "b.yaml"), environment=environment
    )
    assert told.capacity == 2


def test_a_nested_key_of_the_environment_keeps_its_neighbours_from_yaml(tmp_path: Path) -> None:
    settings = load(
        "router: {url: 'grpc://a:1', deadline_s: 2}",
        tmp_path=tmp_path,
        DEMO_ROUTER__URL="grpc://b:1",
    )
    assert settings.router == LayerSettings(url="grpc://b:1", deadline_s=2.0)


def test_a_nested_key_of_the_environment_fills_what_yaml_left_empty(tmp_path: Path) -> None:
    settings = load("spare:\n", tmp_path=tmp_path, DEMO_SPARE__DEADLINE_S="3")
    assert settings.spare == LayerSettings(deadline_s=3.0)


def test_lists_and_mappings_of_the_environment_are_commas_or_yaml() -> None:
    assert load(DEMO_POOLS="a/b, c/d,").pools == ("a/b", "c/d")
    assert load(DEMO_POOLS="[a/b, c/d]").pools == ("a/b", "c/d")
    assert load(DEMO_LABELS="x,y").labels == ("x", "y")
    assert load(DEMO_WEIGHTS="{queue: 2}").weights == {"queue": 2.0}
    assert load(DEMO_RULES="[{match: '*'}]").rules == (RuleSettings(match="*"),)


def test_an_optional_value_can_be_taken_away_by_the_environment() -> None:
    assert load(DEMO_SEED="").seed is None
    assert load(DEMO_SEED="none").seed is None
    assert load(DEMO_SEED="3").seed == 3


def test_text_of_the_environment_becomes_numbers_and_switches() -> None:
    settings = load(DEMO_QUEUE_TTL_S="2.5", DEMO_ENABLED="true", DEMO_BUS_URL="5")
    assert (settings.queue_ttl_s, settings.enabled, settings.bus_url) == (2.5, True, "5")


@pytest.mark.parametrize(
    ("environment", "key", "why"),
    [
        ({"DEMO_QUEUE_TTL_S": "0"}, "queue_ttl_s", "> 0"),
        ({"DEMO_CAPACITY": "-1"}, "capacity", ">= 0"),
        ({"DEMO_CAPACITY": "many"}, "capacity", "int"),
        ({"DEMO_ROUTER__DEADLINE_S": "-1"}, "router.deadline_s", "> 0"),
        ({"DEMO_LABELS": "a,b,c,d"}, "labels", "length <= 3"),
        ({"DEMO_WEIGHTS": "{queue"}, "DEMO_WEIGHTS", "not YAML"),
        ({"DEMO_CAPACITY__X": "1"}, "DEMO_CAPACITY__X", "no settings of its own"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_key(
    environment: dict[str, str], key: str, why: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(DemoSettings, prefix="DEMO_", environment=environment)
    assert caught.value.key == key
    assert why in caught.value.why


def test_an_unknown_variable_is_named_with_the_nearest_settings() -> None:
    with pytest.raises(SettingsError) as caught:
        load(DEMO_QUEUE_TTL="5")
    assert caught.value.key == "DEMO_QUEUE_TTL"
    assert "did you mean queue_ttl_s?" in caught.value.why


def test_an_unknown_key_of_a_nested_mapping_is_named_with_the_settings_of_that_mapping(
    tmp_path: Path,
) -> None:
    with pytest.raises(SettingsError) as caught:
        load("router: {urls: 'grpc://a:1'}", tmp_path=tmp_path)
    assert caught.value.key == "router.urls"
    assert "did you mean url? there are: deadline_s, url" in caught.value.why
    with pytest.raises(SettingsError) as caught:
        load("rules: [{match: a}, {onfailure: b}]", tmp_path=tmp_path)
    assert "there are: match, on_failure" in caught.value.why


def test_the_variables_that_kubernetes_sets_for_a_service_of_our_name_are_no_settings() -> None:
    assert (
        load(
            DEMO_SERVICE_HOST="10.0.0.1",
            DEMO_SERVICE_PORT="9101",
            DEMO_SERVICE_PORT_GRPC="9101",
            DEMO_PORT="tcp://10.0.0.1:9101",
            DEMO_PORT_9101_TCP="tcp://10.0.0.1:9101",
            DEMO_PORT_9101_TCP_ADDR="10.0.0.1",
            DEMO_ADMIN_SERVICE_HOST="10.0.0.2",
            DEMO_ADMIN_PORT="tcp://10.0.0.2:9191",
        )
        == DemoSettings()
    )


@pytest.mark.parametrize(
    ("yaml", "why"),
    [
        ("- a", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("capacity: 1\ncapacity: 2", "'capacity' stands twice"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_with_its_name(
    tmp_path: Path, yaml: str, why: str
) -> None:
    with pytest.raises(SettingsError, match=r"demo\.yaml") as caught:
        load(yaml, tmp_path=tmp_path)
    assert why in caught.value.why


def test_a_file_that_is_not_there_is_refused_and_an_empty_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(DemoSettings, prefix="DEMO_", path=str(tmp_path / "no.yaml"), environment={})
    assert load("# nothing\n", tmp_path=tmp_path) == DemoSettings()


def test_secrets_are_masked_where_settings_are_shown() -> None:
    shown = shown_settings(
        DemoSettings(api_token=TOKEN, bus_url="nats://me:s3cret@a:4222,nats://me:x@b:4222")
    )
    assert shown["api_token"] == MASK
    assert shown["bus_url"] == "nats://me:***@a:4222,nats://me:***@b:4222"
    assert shown["router"]["url"] == "grpc://router:9101"
    assert not shown_settings(DemoSettings())["api_token"]


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("nats://t0ken@nats:4222", "nats://***@nats:4222"),
        ("redis://:p@ss@redis:6379/0", "redis://:***@redis:6379/0"),
        ("nats://nats:4222", "nats://nats:4222"),
        ("http://host/a@b", "http://host/a@b"),
    ],
)
def test_urls_lose_their_passwords_and_tokens(url: str, masked: str) -> None:
    assert masked_url(url) == masked
