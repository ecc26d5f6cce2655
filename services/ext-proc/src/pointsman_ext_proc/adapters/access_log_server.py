"""Envoy's gRPC access log as the completion signal: tells the ends of leased requests."""

import asyncio

from google.protobuf.message import DecodeError

from pointsman_common.structured_log import get_logger
from pointsman_ext_proc.adapters.envoy_messages import (
    decode_access_log,
    encode_access_log_response,
)
from pointsman_ext_proc.adapters.lease_book import LeaseBook
from wire import BidiStream

log = get_logger("access-log")


class AccessLogServer:
    """Serves StreamAccessLogs. A gateway keeps its stream open for ever: `end` closes them."""

    def __init__(self, leases: LeaseBook) -> None:
        self._leases = leases
        self._ending = asyncio.Event()

    async def serve(self, stream: BidiStream) -> None:
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            while not ending.done():
                received = asyncio.ensure_future(stream.receive())
                try:
                    await asyncio.wait({received, ending}, return_when=asyncio.FIRST_COMPLETED)
                    raw = received.result() if received.done() else None
                finally:
                    received.cancel()
                if raw is None:
                    break
                self._read(raw)
            await stream.send(encode_access_log_response())
        finally:
            ending.cancel()

    def end(self) -> None:
        """Let the gateways take their logs elsewhere."""
        self._ending.set()

    def _read(self, raw: bytes) -> None:
        try:
            ends = decode_access_log(raw)
        except DecodeError as error:
            log.warning("access-log-unreadable", error=str(error))
            return
        for logged in ends:
            self._leases.ended_in_access_log(logged)
