"""Serves pool.v1 to those who start late, have seen a gap, or hear nothing on the bus."""

from pointsman_common.contracts import pool_pb2
from pointsman_common.pool_subscriber import GET_SNAPSHOT
from pointsman_common.rpc_server import UnaryHandler
from pointsman_datalayer.adapters.pool_snapshot_publisher import PoolSnapshotPublisher
from pointsman_datalayer.core.endpoint_registry import EndpointRegistry


def pool_hooks(
    registry: EndpointRegistry, publisher: PoolSnapshotPublisher
) -> dict[str, UnaryHandler]:
    """The hook of the datalayer, from memory: for an RpcServer."""

    def get_snapshot(message: bytes) -> bytes:
        pool = pool_pb2.GetSnapshotRequest.FromString(message).pool
        known = registry.pools()
        names = known if not pool else [pool] if pool in known else []
        states = [publisher.state(name) for name in names]
        return pool_pb2.GetSnapshotResponse(pools=states).SerializeToString()

    return {GET_SNAPSHOT: get_snapshot}
