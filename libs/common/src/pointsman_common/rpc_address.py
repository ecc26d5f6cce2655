"""Addresses of calls as settings give them: `host:port` or `unix:///path`, checked at the start."""

import re

from pointsman_common.errors import SettingsError
from wire import Transport

RpcTransport = Transport
"""The setting `rpc_transport` of a service: which engine carries its calls."""

_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):(\d{1,5})")


def checked_address(address: str, *, key: str) -> str:
    """The address as it is; `key` names the setting.

    Raises:
        SettingsError: neither `host:port` (IPv6 in brackets) nor `unix:///path`.
    """
    found = _HOST_AND_PORT.fullmatch(address)
    if found is not None and int(found[1]) <= 65_535:
        return address
    if address.startswith("unix:///") and len(address) > len("unix:///"):
        return address
    raise SettingsError(key, f"{address!r} is neither host:port nor unix:///path")


def listen_addresses(addresses: str, *, key: str = "listen_address") -> list[str]:
    """What to listen on, from a comma list.

    Raises:
        SettingsError: an entry is no address.
    """
    return [checked_address(item.strip(), key=key) for item in addresses.split(",")]
