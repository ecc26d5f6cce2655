"""The endpoints of every pool as the content of Envoy's endpoint discovery file.

Envoy's `override_host` reaches only hosts that its cluster knows, so every endpoint is listed,
ready or not: which one is used is for the scheduler to say.
"""

import hashlib
import ipaddress
import json
from collections.abc import Iterable
from typing import Any

_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def endpoint_file(addresses: Iterable[str], cluster: str) -> str:
    """The file's text, the same for the same addresses.

    An address that is not `ip:port` is left out: Envoy would refuse the whole file.
    """
    hosts: list[dict[str, Any]] = []
    for address in sorted(set(addresses)):
        host, _, port = address.rpartition(":")
        try:
            ip = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            continue
        socket = {"address": str(ip), "port_value": int(port)}
        hosts.append({"endpoint": {"address": {"socket_address": socket}}})
    assignment = {
        "@type": _TYPE,
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": hosts}],
    }
    version = hashlib.sha256(json.dumps(assignment).encode()).hexdigest()[:16]
    return json.dumps({"version_info": version, "resources": [assignment]}, indent=2) + "\n"
