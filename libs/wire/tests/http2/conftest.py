import pytest

from wire.grpc.heads import request_head_of
from wire.http2.hpack_cache import HeaderBlock
from wire.http2.server_connection import ServerConnection
from wire.testing.scripted_client import RecordingStream, ScriptedClient


class _CheckingClient(ScriptedClient):
    """Its server reads heads as the gRPC layer does, so that malformed ones are found."""

    def _accept(
        self, connection: ServerConnection, stream_id: int, block: HeaderBlock
    ) -> RecordingStream:
        request_head_of(block)
        return super()._accept(connection, stream_id, block)


@pytest.fixture
def checked_client() -> ScriptedClient:
    return _CheckingClient()
