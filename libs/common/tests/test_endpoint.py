from dataclasses import fields, replace

import pytest

from pointsman_common.endpoint import Endpoint, EndpointMetrics, in_subset, ip_of


@pytest.mark.parametrize(
    ("address", "ip"),
    [
        ("10.0.0.1:8000", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("[fd00::1]:8000", "fd00::1"),
        ("[fd00::1]", "fd00::1"),
        ("fd00::1", "fd00::1"),
        ("[fd00::1", "fd00::1"),
        ("", ""),
    ],
)
def test_the_ip_is_found_in_every_form_of_an_address(address: str, ip: str) -> None:
    assert ip_of(address) == ip


def test_a_subset_entry_with_a_port_means_that_port_and_one_without_means_all() -> None:
    assert in_subset("10.0.0.1:8000", frozenset({"10.0.0.1:8000"}))
    assert not in_subset("10.0.0.1:8001", frozenset({"10.0.0.1:8000"}))
    assert in_subset("10.0.0.1:8001", frozenset({"10.0.0.1"}))
    assert in_subset("[fd00::1]:8000", frozenset({"fd00::1"}))
    assert not in_subset("10.0.0.1:8000", frozenset())


def test_an_age_is_never_negative_and_infinite_when_nothing_was_read() -> None:
    assert EndpointMetrics(read_at=5.0).age_s(4.0) == 0.0
    assert EndpointMetrics(read_at=5.0).age_s(7.5) == 2.5
    assert EndpointMetrics().age_s(7.5) == float("inf")


def test_an_endpoint_with_other_metrics_is_the_same_otherwise() -> None:
    facts = {field.name: f"some {field.name}" for field in fields(Endpoint)}
    endpoint, metrics = Endpoint(**facts), EndpointMetrics(waiting_requests=3)  # type: ignore[arg-type]  # only moved
    assert endpoint.measured(metrics) == replace(endpoint, metrics=metrics)
