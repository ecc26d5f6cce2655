"""How full a pool is, as the gate sees it.

One gate a pool, never one an endpoint. A pool whose endpoints are split into prefill and decode is
as full as the fuller of the two stages. When nobody tells of the pool any more its metrics say
nothing: then the leases alone decide.
"""

from collections.abc import Callable, Mapping, Sequence

from pointsman_common.endpoint import Endpoint
from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.core.in_flight_ledger import InFlightLedger
from pointsman_flow_controller.core.plugin_protocols import PoolLoad, SaturationDetector

ROLE_LABEL = "llm-d.ai/role"
_PREFILL_ONLY = frozenset({"prefill", "encode-prefill"})
_DECODE_ONLY = frozenset({"decode"})
_NEITHER = frozenset({"encode"})

EFFECTIVE = "effective"


class PoolGate:
    def __init__(
        self,
        make_detector: Callable[[], SaturationDetector],
        make_blind_detector: Callable[[], SaturationDetector],
        ledger: InFlightLedger,
    ) -> None:
        self.ledger = ledger
        self.empty = True
        """No endpoint is ready."""
        self.blind = False
        """Nobody tells of the pool: decided by the leases alone."""
        self.peers = 0
        """Other replicas that let requests go to the pool just now."""
        self._make, self._make_blind = make_detector, make_blind_detector
        self._stages: dict[str, SaturationDetector] = {}
        self._blind_stages: dict[str, SaturationDetector] = {}

    def observe(self, endpoints: Sequence[Endpoint], now: float) -> None:
        """Take over the ready endpoints and their metrics. O(n log n)."""
        self.empty = not endpoints
        stages = split_by_stage(endpoints)
        if stages.keys() != self._stages.keys():
            self._stages = {stage: self._make() for stage in stages}
            self._blind_stages = {stage: self._make_blind() for stage in stages}
        for stage, members in stages.items():
            self._stages[stage].observe(members, now)
            self._blind_stages[stage].observe(members, now)
        self.ledger.metrics_read({item.uid: item.metrics.read_at for item in endpoints})

    def saturation(self, now: float) -> float:
        """Of the fuller stage; 1.0 is full. A pool without endpoints is full.

        What other replicas have let go in the last milliseconds is not known yet: each is taken to
        have done as this one has.
        """
        ledger = self.ledger
        ledger.lapse(now)
        if self.peers and ledger.untold:
            return self._saturation(self._more(self.peers * ledger.untold), now)
        return self._saturation(ledger.load, now)

    def known_saturation(self, now: float) -> float:
        """The same without a guess at what others have just done."""
        self.ledger.lapse(now)
        return self._saturation(self.ledger.load, now)

    def room(self, request: QueuedRequest, most: int, ceiling: float, now: float) -> int:
        """How many like this request may go before the saturation is `ceiling`, up to `most`, by
        what is known. To be asked while it is below. O(log of the answer)."""
        fits, step = 1, 1  # `fits` may go, and the next may once `step` have gone
        while fits < most and self._is_below(step, request, ceiling, now):
            fits, step = min(step + 1, most), step * 2
        too_many = min(step + 1, most + 1)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self._is_below(middle - 1, request, ceiling, now):
                fits = middle
            else:
                too_many = middle
        return fits

    def by_stage(self, now: float) -> Mapping[str, float]:
        """For metrics: of each stage, where there are two, and the effective one."""
        found = {EFFECTIVE: self.saturation(now)}
        if len(self._stages) > 1:
            load = self.ledger.load
            found |= {name: each.saturation(load, now) for name, each in self._stages.items()}
        return found

    @property
    def stale_endpoints(self) -> int:
        """Endpoints whose metrics were not believed at the last answer."""
        return sum(detector.stale_endpoints for detector in self._stages.values())

    def _saturation(self, load: PoolLoad, now: float) -> float:
        if self.empty:
            return 1.0
        fullest = 0.0
        for detector in (self._blind_stages if self.blind else self._stages).values():
            fullest = max(fullest, detector.saturation(load, now))
        return fullest

    def _is_below(self, more: int, request: QueuedRequest, ceiling: float, now: float) -> bool:
        tokens = request.prompt_tokens + request.expected_output_tokens
        load = self.ledger.load.plus(more, tokens=tokens, prefill_tokens=request.prompt_tokens)
        return self._saturation(load, now) < ceiling

    def _more(self, requests: int) -> PoolLoad:
        """The load with more requests like those in flight."""
        load = self.ledger.load
        return load.plus(
            requests,
            tokens=load.tokens // max(load.requests, 1),
            prefill_tokens=load.prefill_tokens // max(load.prefilling, 1),
        )


def split_by_stage(endpoints: Sequence[Endpoint]) -> dict[str, list[Endpoint]]:
    """The endpoints of each stage by upstream's role label; one that does both is in both.

    A pool in which every endpoint does both has one stage.
    """
    prefill: list[Endpoint] = []
    decode: list[Endpoint] = []
    for endpoint in endpoints:
        role = endpoint.labels.get(ROLE_LABEL, "")
        if role in _NEITHER:
            continue
        if role not in _DECODE_ONLY:
            prefill.append(endpoint)
        if role not in _PREFILL_ONLY:
            decode.append(endpoint)
    if len(prefill) == len(decode) and all(a is b for a, b in zip(prefill, decode, strict=True)):
        return {EFFECTIVE: decode}
    return {
        stage: members for stage, members in (("prefill", prefill), ("decode", decode)) if members
    }
