"""A service that was told an address that is none does not start, and names the setting."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support.processes import Process


@pytest.mark.parametrize(
    ("service", "key", "value"),
    [
        ("router", "listen_address", "0.0.0.0"),
        ("flow_controller", "datalayer_url", "datalayer:9104"),
        ("scheduler", "datalayer_url", "grpc://datalayer"),
        ("datalayer", "listen_address", "0.0.0.0:http"),
        ("ext_proc", "listen_address", "0.0.0.0:9002,"),
    ],
)
def test_an_address_that_is_none_refuses_the_start_by_its_key(
    start_service: Callable[[str, Mapping[str, str]], Process],
    tmp_path: Path,
    service: str,
    key: str,
    value: str,
) -> None:
    environment = {f"{service}_{key}".upper(): value, "DATALAYER_MANIFESTS_PATH": str(tmp_path)}
    process = start_service(f"pointsman_{service}", environment)
    assert process.wait(60) == 1
    assert process.output().splitlines()[-1].startswith(f"error: {key}: ")
