"""The file that Envoy reads."""

import json

from pointsman_datalayer.core.envoy_endpoints import endpoint_file


def hosts(text: str) -> list[tuple[str, int]]:
    (assignment,) = json.loads(text)["resources"]
    assert assignment["@type"].endswith("envoy.config.endpoint.v3.ClusterLoadAssignment")
    assert assignment["cluster_name"] == "pool_endpoints"
    sockets = [
        item["endpoint"]["address"]["socket_address"]
        for item in assignment["endpoints"][0]["lb_endpoints"]
    ]
    return [(socket["address"], socket["port_value"]) for socket in sockets]


def test_each_address_stands_once_and_ipv6_without_brackets() -> None:
    text = endpoint_file(["10.0.0.1:80", "[::1]:81", "10.0.0.1:80"], "pool_endpoints")
    assert hosts(text) == [("10.0.0.1", 80), ("::1", 81)]


def test_what_is_no_ip_is_left_out() -> None:
    assert hosts(endpoint_file(["host:80", "10.0.0.1:80"], "pool_endpoints")) == [("10.0.0.1", 80)]


def test_no_endpoints_are_a_file_too() -> None:
    assert hosts(endpoint_file([], "pool_endpoints")) == []


def test_the_version_changes_with_the_addresses_only() -> None:
    def version(*addresses: str) -> str:
        return str(json.loads(endpoint_file(addresses, "pool_endpoints"))["version_info"])

    assert version("10.0.0.1:80", "10.0.0.2:80") == version("10.0.0.2:80", "10.0.0.1:80")
    assert version("10.0.0.1:80") != version("10.0.0.2:80")
