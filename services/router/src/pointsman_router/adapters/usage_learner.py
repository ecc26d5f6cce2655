"""Learns from finished requests how many tokens engines really count; see core/token_ratio.py.

A pick tells how many blocks of text a prompt has, the end how many tokens the engine counted. A few
hundred requests say enough, so it listens a short while of each minute and costs nothing otherwise.
"""

from collections import OrderedDict
from collections.abc import Callable

from google.protobuf.message import DecodeError

from pointsman_common import subjects
from pointsman_common.bus import Bus
from pointsman_common.clock import Clock
from pointsman_common.contracts import events_pb2
from pointsman_common.structured_log import get_logger
from pointsman_router.core.token_ratio import TokenRatios

log = get_logger("usage-learner")

LISTEN_S, PAUSE_S = 10.0, 50.0
MAX_OPEN = 10_000
LEAST_BLOCKS = 4
"""A shorter prompt says little: half a block is not known."""


class UsageLearner:
    """A part of the service. `block_tokens` gives the estimated tokens of a pool's blocks."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        ratios: TokenRatios,
        *,
        block_tokens: Callable[[str], int | None],
        max_blocks: int,
    ) -> None:
        self._bus, self._clock, self._ratios = bus, clock, ratios
        self._block_tokens, self._max_blocks = block_tokens, max_blocks
        self._open: OrderedDict[str, int] = OrderedDict()
        """Estimated prompt tokens by lease."""

    async def run(self) -> None:
        while True:
            ends = [
                self._bus.subscribe(subjects.request_picked(subjects.ALL), self._picked),
                self._bus.subscribe(subjects.request_finished(subjects.ALL), self._finished),
            ]
            try:
                await self._clock.sleep(LISTEN_S)
            finally:
                for end in ends:
                    end()
            self._open.clear()
            await self._clock.sleep(PAUSE_S)

    def _picked(self, _: str, payload: bytes) -> None:
        events = _read(payload)
        block_tokens = self._block_tokens(events.pool)
        if block_tokens is None:
            return
        for picked in events.picked:
            blocks = picked.first_block + len(picked.prompt_block_hashes) // 8
            if LEAST_BLOCKS <= blocks < self._max_blocks:
                # The last block is full to one half on average.
                self._open[picked.lease.lease_id] = round((blocks - 0.5) * block_tokens)
                if len(self._open) > MAX_OPEN:
                    self._open.popitem(last=False)

    def _finished(self, _: str, payload: bytes) -> None:
        for finished in _read(payload).finished:
            estimated = self._open.pop(finished.lease_id, None)
            if estimated is not None and finished.HasField("prompt_tokens"):
                self._ratios.learn(
                    finished.model, estimated=estimated, counted=finished.prompt_tokens
                )


def _read(payload: bytes) -> events_pb2.RequestEvents:
    try:
        return events_pb2.RequestEvents.FromString(payload)
    except DecodeError as error:
        log.debug("request-events-unreadable", error=str(error))
        return events_pb2.RequestEvents()
