"""Which engine carries the calls in this run: POINTSMAN_TEST_TRANSPORT, `wire` unless set.

`make test RPC_TRANSPORT=grpcio` sets it. Services that a test starts get it as their
`rpc_transport`, unless the test is about the setting itself.
"""

import os
from collections.abc import Mapping

from wire import Transport

_WANTED = os.environ.get("POINTSMAN_TEST_TRANSPORT") or "wire"

if _WANTED not in ("wire", "grpcio"):
    raise ValueError(f"POINTSMAN_TEST_TRANSPORT={_WANTED!r} is neither wire nor grpcio")

TEST_TRANSPORT: Transport = "grpcio" if _WANTED == "grpcio" else "wire"

_SERVICES = ("ext_proc", "router", "flow_controller", "scheduler", "datalayer")


def transport_environment(module: str) -> Mapping[str, str]:
    """For a process that runs a service's module; empty for any other."""
    service = module.removeprefix("pointsman_")
    if service not in _SERVICES:
        return {}
    return {f"{service.upper()}_RPC_TRANSPORT": TEST_TRANSPORT}
