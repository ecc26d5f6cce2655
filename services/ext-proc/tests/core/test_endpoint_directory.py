from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import POOL, a_pool_config, a_snapshot, an_endpoint
from pointsman_ext_proc.core.endpoint_directory import EndpointDirectory
from pointsman_ext_proc.core.last_resort import LastResort


def a_view() -> PoolView:
    view = PoolView(max_age_s=10.0)
    endpoints = [an_endpoint(1), an_endpoint(2), an_endpoint(3, ready=False)]
    view.apply_snapshot(a_snapshot(endpoints), 1_000.0)
    return view


def test_a_pool_is_known_once_its_state_was_heard_of() -> None:
    view = PoolView(max_age_s=10.0)
    directory = EndpointDirectory(view, POOL)
    assert not directory.known
    view.apply_config(a_pool_config())
    assert not directory.known
    view.apply_snapshot(a_snapshot([]), 1_000.0)
    assert directory.known


def test_endpoints_are_found_by_address_as_the_pool_changes() -> None:
    view = a_view()
    directory = EndpointDirectory(view, POOL)
    found = directory.find("10.0.0.2:8000")
    assert found is not None
    assert found.uid == "e2"
    assert directory.find("10.0.0.4:8000") is None
    view.apply_snapshot(a_snapshot([an_endpoint(4)], sequence=2), 1_000.0)
    assert directory.find("10.0.0.2:8000") is None
    assert directory.find("10.0.0.4:8000") is not None


def test_a_subset_allows_by_address_or_by_ip() -> None:
    directory = EndpointDirectory(a_view(), POOL)

    def allowed(*subset: str) -> list[str]:
        return [endpoint.uid for endpoint in directory.ready(subset)]

    assert [endpoint.uid for endpoint in directory.ready(None)] == ["e1", "e2"]
    assert allowed("10.0.0.1:8000", "10.0.0.3:8000") == ["e1"]
    assert allowed("10.0.0.2") == ["e2"]
    assert allowed("10.0.0.2:9999") == []
    assert allowed() == []


def test_an_unreachable_endpoint_is_left_out_until_it_is_spoken_of_again() -> None:
    view = a_view()
    directory = EndpointDirectory(view, POOL)
    directory.mark_unreachable("10.0.0.1:8000")
    directory.mark_unreachable("6.6.6.6:1")
    assert [endpoint.uid for endpoint in directory.ready(None)] == ["e2"]
    view.apply_snapshot(a_snapshot([an_endpoint(1)], sequence=2), 1_000.0)
    assert [endpoint.uid for endpoint in directory.ready(None)] == ["e1"]


def test_the_last_resort_takes_each_endpoint_in_turn_with_fallbacks() -> None:
    last_resort = LastResort()
    endpoints = [an_endpoint(index) for index in range(1, 5)]
    picks = [last_resort.pick(endpoints) for _ in range(8)]
    assert [pick[0].uid for pick in picks] == ["e1", "e2", "e3", "e4"] * 2
    assert [item.uid for item in picks[3]] == ["e4", "e1", "e2"]
    assert last_resort.pick([]) == ()
    assert len(last_resort.pick([an_endpoint(1)])) == 1
