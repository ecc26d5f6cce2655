"""What the contract suites share: services as processes, beside a datalayer told what to say.

A suite speaks only proto and bus to an address, `<LAYER>_UNDER_TEST=host:port`. Where that is not
set it starts the reference service with these fixtures:

    @pytest.fixture(scope="module")
    def router(under_test, start_service, fake_datalayer, free_port, wait_ready) -> str: ...

All of them are of module scope, so that one process serves a whole file.
"""

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `support`, wherever pytest is started

from support import ports, processes
from support.fake_datalayer import FakeDatalayer
from support.polling import wait_until

from pointsman_common.contracts.pool_pb2 import PoolState


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Each call gives a port of 127.0.0.1 that nobody listens on."""
    return ports.free_port


@pytest.fixture(scope="session")
def under_test() -> Callable[[str], str | None]:
    """`under_test("router")` is the address in ROUTER_UNDER_TEST, if there is one."""

    def address(layer: str) -> str | None:
        return os.environ.get(f"{layer.upper().replace('-', '_')}_UNDER_TEST") or None

    return address


@pytest.fixture(scope="module")
def start_service(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str, Mapping[str, str]], processes.Process]]:
    """`start_service("pointsman_router", {"ROUTER_BUS_URL": …})`; stopped when the file is done."""
    started: list[processes.Process] = []
    number = itertools.count(1)

    def start(module: str, environment: Mapping[str, str]) -> processes.Process:
        log = tmp_path_factory.mktemp(module) / f"{module}-{next(number)}.log"
        process = processes.start_module(module, log, environment)
        started.append(process)
        return process

    yield start
    for process in reversed(started):
        process.stop()


@pytest.fixture(scope="session")
def wait_ready() -> Callable[[processes.Process, str], None]:
    """`wait_ready(process, "http://127.0.0.1:9191")`: until `/readyz` says so, or fail with the
    process's output."""

    def wait(process: processes.Process, admin_url: str) -> None:
        processes.wait_ready(process, admin_url)

    return wait


@pytest.fixture(scope="module")
def fake_datalayer(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., FakeDatalayer]]:
    """`fake_datalayer(pool_state(pool, *endpoints), …)`: give its `.url` to a service as
    `datalayer_url`; `.say(…)` changes what it answers."""
    started: list[FakeDatalayer] = []

    def start(*states: PoolState) -> FakeDatalayer:
        datalayer = FakeDatalayer(tmp_path_factory.mktemp("datalayer"))
        datalayer.say(*states)
        started.append(datalayer)
        return datalayer

    yield start
    for datalayer in started:
        datalayer.stop()


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A NATS server of the file's own."""
    port = ports.free_port()
    log = tmp_path_factory.mktemp("nats") / "nats.log"
    process = processes.start_nats(port, log)
    wait_until("nats", lambda: "Server is ready" in process.output())
    yield f"nats://127.0.0.1:{port}"
    process.stop()


@pytest.fixture(scope="session")
def no_bus_url() -> str:
    """A bus that is not there: services have to work without it."""
    return f"nats://127.0.0.1:{ports.free_port()}"
