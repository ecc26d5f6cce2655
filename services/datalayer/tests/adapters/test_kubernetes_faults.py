"""An API server that restarts, forgets, stalls or talks nonsense: what was known stays in force."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.kubernetes_cluster import (
    Cluster,
    a_kubernetes_objective,
    a_kubernetes_pod,
    a_kubernetes_pool,
    cluster,
)
from support.kubernetes_world import running, until


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as opened:
        yield opened


async def test_streams_that_are_cut_off_go_on_where_they_were(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        lists = list(server.lists)
        server.cut_streams()
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])
        assert server.lists == lists, "nothing was listed again"


async def test_410_gone_lists_again_and_loses_nothing(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    gone = a_kubernetes_pod("a", "10.0.0.1")
    await there.apply(gone)
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        server.faults.silent = True  # what follows is never told by a stream
        await there.delete(gone)
        await there.apply(a_kubernetes_pod("b", "10.0.0.2"))
        server.faults.silent = False
        server.expire_streams()
        await until("the list", lambda: world.addresses() == ["10.0.0.2:8000"])
        assert world.count("kubernetes_lists_total", kind="Pod") == 2


async def test_a_history_compacted_while_it_was_away_lists_again(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        await server.stop()
        server.compact()
        await server.start()
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])


async def test_a_bookmark_moves_the_version_on_so_that_no_list_is_needed(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        await until("a watch of pods", lambda: any(kind == "pods" for kind, _ in server.watches))
        lists = list(server.lists)
        server.bookmark()
        told = str(server.version)
        labels = {"kind": "Pod", "type": "BOOKMARK"}
        await until("a bookmark", lambda: world.count("kubernetes_events_total", **labels) == 1)
        server.compact_to(server.version)  # what was before the bookmark is forgotten
        server.cut_streams()
        await until("watched from it", lambda: ("pods", told) in server.watches)
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])
        assert server.lists == lists


async def test_a_server_that_restarts_changes_nothing_meanwhile(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
    async with running(there) as world:
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])
        await server.stop()
        failing = {"kind": "Pod"}
        await until("it notices", lambda: world.count("kubernetes_failures_total", **failing) > 1)
        assert world.addresses() == ["10.0.0.1:8000"]
        assert any(watch["problem"] for watch in world.discovery.watches())
        await server.start()
        await there.apply(a_kubernetes_pod("b", "10.0.0.2"))
        await until("it goes on", lambda: len(world.addresses()) == 2, timeout_s=5.0)


async def test_a_server_that_is_away_at_the_start_is_waited_for(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    await server.stop()
    async with running(there) as world:
        await until(
            "it tries", lambda: world.count("kubernetes_failures_total", kind="InferenceModel") > 1
        )
        assert not world.registry.discovered
        await server.start()
        await until("the pool", lambda: world.registry.discovered)


async def test_events_in_crumbs_are_put_together(there: Cluster) -> None:
    server = there.server
    server.faults.crumb_bytes = 7
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])


async def test_a_stream_that_says_nothing_is_begun_anew_in_time(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    server.faults.silent = True
    async with running(there, watch_timeout_s=1.0) as world:
        await until("the pool", lambda: world.registry.discovered)
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await asyncio.sleep(0.2)
        server.faults.silent = False  # the open streams have swallowed it
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])


async def test_a_stream_of_nonsense_does_no_harm_and_is_tried_again(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        server.faults.bad_lines = True
        await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
        await until("it notices", lambda: world.count("kubernetes_failures_total", kind="Pod") > 0)
        server.faults.bad_lines = False
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])


async def test_long_lists_come_in_pages(there: Cluster) -> None:
    server = there.server
    server.faults.page = 2
    await there.apply(a_kubernetes_pool())
    for number in range(1, 6):
        await there.apply(a_kubernetes_pod(f"p{number}", f"10.0.0.{number}"))
    async with running(there) as world:
        await until("five pods", lambda: len(world.addresses()) == 5)


@pytest.mark.parametrize("status", [403, 404])
async def test_a_kind_that_cannot_be_had_holds_up_nothing(there: Cluster, status: int) -> None:
    server = there.server
    server.faults.status["inferencemodels"] = status
    await there.apply(a_kubernetes_pool())
    async with running(there) as world:
        await until("the pool", lambda: world.registry.discovered)
        (problem,) = [watch["problem"] for watch in world.discovery.watches() if watch["problem"]]
        assert f"HTTP {status}" in problem


async def test_rights_that_are_taken_away_leave_what_was_known(there: Cluster) -> None:
    server = there.server
    await there.apply(a_kubernetes_pool())
    await there.apply(a_kubernetes_pod("a", "10.0.0.1"))
    async with running(there) as world:
        await until("the pod", lambda: world.addresses() == ["10.0.0.1:8000"])
        server.faults.status["pods"] = 403
        server.cut_streams()
        await until("it notices", lambda: world.count("kubernetes_failures_total", kind="Pod") > 0)
        await there.apply(a_kubernetes_objective("high", 10))
        await until("the rest goes on", lambda: world.objectives() == {"high": 10})
        assert world.addresses() == ["10.0.0.1:8000"]
