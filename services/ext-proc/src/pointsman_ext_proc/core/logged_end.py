"""The end of a request as the gateway's access log tells it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoggedEnd:
    lease_id: str
    http_status: int
    """0: there was no answer."""
    served: str = ""
    """`ip:port` of the endpoint that was connected to; empty: none was."""
    response_bytes: int = 0
    duration_s: float = 0.0
    """0: not told."""
    connect_failed: bool = False
    connection_lost: bool = False
    client_gone: bool = False

    @property
    def cause(self) -> str:
        """As in RequestFinished."""
        if self.connect_failed or self.connection_lost:
            return "connection-failed"
        return "client-gone" if self.client_gone else "finished"
