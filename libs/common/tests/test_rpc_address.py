import pytest

from pointsman_common.errors import SettingsError
from pointsman_common.rpc_address import checked_address, listen_addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:9002",
        "router:0",
        "router.ns.svc.cluster.local:65535",
        "[::]:9002",
        "[fe80::1%eth0]:80",
        "unix:///run/a b.sock",
    ],
)
def test_addresses_pass_as_they_are(address: str) -> None:
    assert checked_address(address, key="x") == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "9002",
        ":9002",
        "host:",
        "host:http",
        "host:65536",
        "host:123456",
        "::1:9002",
        "http://host:80",
        "host:80/path",
        "a b:80",
        "unix://relative",
        "unix:///",
        "unix:/run/x.sock",
    ],
)
def test_anything_else_is_refused_by_the_name_of_its_setting(address: str) -> None:
    with pytest.raises(SettingsError, match="neither host:port nor unix:///path") as raised:
        checked_address(address, key="health_address")
    assert raised.value.key == "health_address"


def test_a_comma_list_is_checked_entry_by_entry() -> None:
    assert listen_addresses("a:1, unix:///b") == ["a:1", "unix:///b"]
    for bad in ("a:1,", ",", "a:1,b"):
        with pytest.raises(SettingsError, match="listen_address"):
            listen_addresses(bad)
