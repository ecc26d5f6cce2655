"""The files under deploy/ are what this package would make now."""

import subprocess
from pathlib import Path

import pytest
import yaml

from pointsman_cli.__main__ import main
from pointsman_cli.adapters.programs import find_program
from pointsman_cli.core import sample_pool
from pointsman_cli.core.envoy_config import EnvoyPlan, empty_endpoints_file, render_envoy_config
from pointsman_cli.core.gateway_options import CompletionSignal, ResponseMode
from pointsman_cli.core.store_configs import nats_config, redis_config

DEPLOY = Path(__file__).parents[4] / "deploy"


def test_the_compose_envoy_configuration_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envoy-config", "--compose"]) == 0
    assert (DEPLOY / "envoy/envoy.yaml").read_text() == capsys.readouterr().out


def test_the_compose_stores_are_configured_as_those_of_up() -> None:
    assert (DEPLOY / "nats/nats.conf").read_text() == nats_config("0.0.0.0", 4222, 8222)
    assert (DEPLOY / "redis/redis.conf").read_text() == redis_config("0.0.0.0", 6379)


def test_the_sample_pool_of_up_is_that_of_deploy() -> None:
    shipped = [
        document
        for name in ("pool", "objectives", "rewrites")
        for document in yaml.safe_load_all((DEPLOY / f"manifests/sample/{name}.yaml").read_text())
    ]
    assert list(yaml.safe_load_all(sample_pool.POOL_MANIFEST)) == shipped


def test_compose_lists_the_engines_as_up_does() -> None:
    shipped = yaml.safe_load((DEPLOY / "compose/manifests/endpoints.yaml").read_text())
    engines = [(f"engine-{number}", 8000) for number in (1, 2, 3)]
    assert shipped == yaml.safe_load(sample_pool.endpoints_manifest(engines))


@pytest.mark.parametrize("mode", ResponseMode)
@pytest.mark.parametrize("signal", CompletionSignal)
def test_envoy_accepts_every_configuration(
    tmp_path: Path, mode: ResponseMode, signal: CompletionSignal
) -> None:
    endpoints = tmp_path / "endpoints.json"
    endpoints.write_text(empty_endpoints_file())
    plan = EnvoyPlan(
        listen_address="127.0.0.1:1",
        admin_address="127.0.0.1:2",
        edge_addresses=("edge-1:9002", "edge-2:9002") if signal == "stream" else ("unix:///e",),
        edge_by_dns=signal == "stream",
        endpoints_path=str(endpoints),
        response_mode=mode,
        completion_signal=signal,
    )
    config = tmp_path / "envoy.yaml"
    config.write_text(render_envoy_config(plan))
    command = [find_program("envoy"), "--mode", "validate", "-c", str(config)]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert judged.returncode == 0, judged.stderr


def test_the_first_pool_of_manifests_is_served() -> None:
    assert sample_pool.first_pool([sample_pool.POOL_MANIFEST]) == sample_pool.POOL
    assert sample_pool.first_pool(["endpoints: []", "{"]) is None
