"""Which replica this is, for envelopes and for people."""

import os
import socket
import uuid

from pointsman_common import CONTRACT_VERSION, __version__
from pointsman_common.contracts.layer_pb2 import DescribeResponse


def replica_id(layer: str) -> str:
    """Unique among all running replicas: layer, host (the pod's name in Kubernetes) and a nonce."""
    host = os.environ.get("POD_NAME") or socket.gethostname()
    return f"{layer}/{host}/{uuid.uuid4().hex[:8]}"


def description(
    layer: str, replica: str, *, capabilities: tuple[str, ...] = (), config_hash: str = ""
) -> DescribeResponse:
    """What `Layer/Describe` of a reference service answers."""
    return DescribeResponse(
        layer=layer,
        name=f"pointsman-{layer}",
        contract_version=CONTRACT_VERSION,
        software_version=__version__,
        capabilities=capabilities,
        replica=replica,
        config_hash=config_hash,
    )
