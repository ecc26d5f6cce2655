"""A datalayer that says what a test tells it: `pool.v1.Pool/GetSnapshot` and nothing else.

It runs as a process of its own, so that fixtures of any scope can keep it. What it answers stands
in a file that is read at each call.
"""

import asyncio
import sys
from pathlib import Path

from pointsman_common.contracts.pool_pb2 import GetSnapshotRequest, GetSnapshotResponse, PoolState
from pointsman_common.endpoint import Endpoint
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.builders import a_pool_config, a_snapshot
from support.ports import free_port
from support.processes import start_module
from wire import Server


def pool_state(pool: InferencePool, *endpoints: Endpoint, sequence: int = 1) -> PoolState:
    """A pool's configuration and its endpoints, with fresh metrics."""
    return PoolState(
        config=a_pool_config(pool, sequence=sequence),
        snapshot=a_snapshot(endpoints, pool=pool.name, sequence=sequence),
    )


class FakeDatalayer:
    """The handle of a running one. `url` is what a service's `datalayer_url` takes."""

    def __init__(self, folder: Path) -> None:
        self._answer = folder / "datalayer.answer"
        self._sequence = 0
        self.say()
        port = free_port()
        self.url = f"grpc://127.0.0.1:{port}"
        self.process = start_module(
            "support.fake_datalayer",
            folder / "datalayer.log",
            {"PYTHONPATH": str(Path(__file__).parents[1])},
            str(port),
            str(self._answer),
        )

    def say(self, *states: PoolState) -> None:
        """Answer with these pools from now on; newer than all that was said before."""
        self._sequence += 1
        for state in states:
            state.config.envelope.sequence = self._sequence
            state.snapshot.envelope.sequence = self._sequence
        message = GetSnapshotResponse(pools=states).SerializeToString()
        written = self._answer.with_suffix(".new")
        written.write_bytes(message)
        written.replace(self._answer)  # at once: never half an answer

    def stop(self) -> None:
        self.process.stop()


async def serve(port: int, answer: Path) -> None:
    def get_snapshot(message: bytes) -> bytes:
        asked = GetSnapshotRequest.FromString(message).pool
        told = GetSnapshotResponse.FromString(answer.read_bytes())
        pools = [state for state in told.pools if asked in ("", state.config.pool)]
        return GetSnapshotResponse(pools=pools).SerializeToString()

    server = Server()
    server.unary("/pointsman.pool.v1.Pool/GetSnapshot", get_snapshot)
    await server.listen(f"127.0.0.1:{port}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
