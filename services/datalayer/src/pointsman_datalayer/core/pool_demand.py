"""What the requests of each pool ask of its engines, in seconds of engine time.

    work = speed × (p × prefill tokens + output tokens × (b + c × prompt tokens))

The constants are those of an 8B model on one H100 (as the scheduler's cost in seconds has them).
`speed` is learned: how much longer the first tokens take than

    step + p × (prompt tokens of the endpoint whose first token is not out, the request's included)

Where work ahead is counted so, the ratio holds in a busy pool as well. Prompts of a few tokens tell
nothing of `p`, so they are not learned from; before enough others were seen nothing is known.

A request is charged when it is picked, with the output that its model's answers had so far, and put
right when it ends. Rates are decayed sums: those of the last half minute or so.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pointsman_common.in_flight import Lease

PREFILL_TOKEN_S = 45e-6
DECODE_TOKEN_S = 30e-6
CONTEXT_TOKEN_S = 0.052e-6
STEP_S = 0.009
"""A step with little in it: overhead and the reading of the weights."""

WINDOW_S = 30.0
"""Time constant of the rates."""
SHORTEST_S = 5.0
"""A rate over less time than this would be noise."""

LEARN_FROM_TOKENS = 128
LEARNED_AFTER = 20
GAIN = 0.05
MOST_MODELS = 200
MOST_POOLS = 1000
MOST_OPEN = 65_536


class DecayingRate:
    """Amounts per second, those of long ago counting less."""

    __slots__ = ("_at", "_since", "_sum")

    def __init__(self, now: float) -> None:
        self._since = self._at = now
        self._sum = 0.0

    def add(self, amount: float, now: float) -> None:
        self._sum = self._decayed(now) + amount
        self._at = max(self._at, now)

    def per_s(self, now: float) -> float:
        watched_s = max(SHORTEST_S, now - self._since)
        return max(0.0, self._decayed(now)) / (WINDOW_S * -math.expm1(-watched_s / WINDOW_S))

    def _decayed(self, now: float) -> float:
        return self._sum * math.exp(-max(0.0, now - self._at) / WINDOW_S)


@dataclass(slots=True)
class EngineSpeed:
    """Times that the engines take longer than the constants say: 1 as fast, 2 half as fast."""

    _log: float = 0.0
    _seen: int = 0

    def observe(self, *, predicted_s: float, observed_s: float) -> None:
        if predicted_s <= 0.0 or observed_s <= 0.0:
            return
        self._seen += 1
        # A mean at first; later no single answer moves it far.
        off = math.log(observed_s / predicted_s) - self._log
        if self._seen > LEARNED_AFTER:
            off = max(-math.log(3.0), min(off, math.log(3.0)))
        self._log += off * max(1.0 / self._seen, GAIN)

    @property
    def factor(self) -> float | None:
        """`None`: too little was seen."""
        return math.exp(self._log) if self._seen >= LEARNED_AFTER else None


@dataclass(frozen=True, slots=True)
class ModelDemand:
    requests_per_s: float
    work_per_s: float
    """Seconds of engine time per second, at speed 1."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Of one pool, as of some moment."""

    requests_per_s: float = 0.0
    work_per_s: float | None = None
    """Seconds of engine time per second: engines that would be busy all the time. `None`: the speed
    is not known."""
    prefill_token_s: float | None = None
    """What a prompt token takes; `None`: the speed is not known."""
    own_ttft_s: float | None = None
    """Time to first token of a mean request with nothing ahead of it."""
    mean_prefill_tokens: float = 0.0
    models: dict[str, ModelDemand] = field(default_factory=dict[str, ModelDemand])


@dataclass(slots=True)
class _Model:
    requests: DecayingRate
    work: DecayingRate
    mean_output: float = 0.0


@dataclass(slots=True)
class _Pool:
    speed: EngineSpeed = field(default_factory=EngineSpeed)
    models: OrderedDict[str, _Model] = field(default_factory=OrderedDict[str, _Model])
    mean_prefill: float | None = None


@dataclass(slots=True)
class _Open:
    pool: str
    model: str
    predicted_s: float
    charged_s: float
    tells: bool


class DemandBook:
    """The demand of all pools. `now` is in monotonic seconds everywhere."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def picked(self, lease: Lease, *, ahead_tokens: int, now: float) -> None:
        """A request was placed. `ahead_tokens`: prompt tokens of its endpoint whose first token is
        not out, its own included. Told again, it counts once."""
        if lease.lease_id in self._open or lease.provisional:
            return
        pool = self._pools.get(lease.pool)
        if pool is None:
            if len(self._pools) >= MOST_POOLS:
                return
            pool = self._pools[lease.pool] = _Pool()
        model = _model(pool, lease.model, now)
        tokens = float(lease.prefill_tokens)
        mean = pool.mean_prefill
        pool.mean_prefill = tokens if mean is None else mean + GAIN * (tokens - mean)
        output = lease.expected_output_tokens or model.mean_output
        charged_s = _work_s(tokens, lease.prompt_tokens, output)
        model.requests.add(1.0, now)
        model.work.add(charged_s, now)
        ahead = max(ahead_tokens, lease.prefill_tokens)
        self._open[lease.lease_id] = _Open(
            lease.pool,
            lease.model,
            STEP_S + PREFILL_TOKEN_S * ahead,
            charged_s,
            ahead >= LEARN_FROM_TOKENS and not lease.serving,
        )
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)

    def first_token(self, lease_id: str, ttft_s: float) -> None:
        known = self._open.get(lease_id)
        pool = self._pools.get(known.pool) if known else None
        if known is not None and pool is not None and known.tells:
            known.tells = False
            pool.speed.observe(predicted_s=known.predicted_s, observed_s=ttft_s)

    def finished(
        self,
        lease_id: str,
        *,
        prompt_tokens: int | None,
        cached_tokens: int | None,
        output_tokens: int | None,
        now: float,
    ) -> None:
        """A request ended, with the counts of its engine where those are known."""
        known = self._open.pop(lease_id, None)
        pool = self._pools.get(known.pool) if known else None
        if known is None or pool is None or output_tokens is None or prompt_tokens is None:
            return
        model = _model(pool, known.model, now)
        first = model.mean_output == 0.0
        model.mean_output += (1.0 if first else GAIN) * (output_tokens - model.mean_output)
        if cached_tokens is not None:
            actual_s = _work_s(prompt_tokens - cached_tokens, prompt_tokens, output_tokens)
            model.work.add(actual_s - known.charged_s, now)

    def demand(self, pool_name: str, now: float) -> Demand:
        pool = self._pools.get(pool_name)
        if pool is None:
            return Demand()
        models = {
            name: ModelDemand(model.requests.per_s(now), model.work.per_s(now))
            for name, model in pool.models.items()
        }
        requests = sum(model.requests_per_s for model in models.values())
        mean, speed = pool.mean_prefill or 0.0, pool.speed.factor
        if speed is None:
            return Demand(requests, mean_prefill_tokens=mean, models=models)
        return Demand(
            requests_per_s=requests,
            work_per_s=speed * sum(model.work_per_s for model in models.values()),
            prefill_token_s=speed * PREFILL_TOKEN_S,
            own_ttft_s=speed * (STEP_S + PREFILL_TOKEN_S * mean),
            mean_prefill_tokens=mean,
            models=models,
        )

    def keep_only(self, pools: Iterable[str]) -> None:
        """Forget the others."""
        for gone in self._pools.keys() - set(pools):
            del self._pools[gone]


@dataclass(slots=True)
class OpenWork:
    """The open leases of one pool, summed up."""

    prefill_tokens: int = 0
    """Whose first token is not out."""
    by_model: Counter[str] = field(default_factory=Counter[str])
    """Requests."""


def sum_up(leases: Iterable[Lease]) -> dict[str, OpenWork]:
    """By pool."""
    found: dict[str, OpenWork] = {}
    for lease in leases:
        work = found.get(lease.pool)
        if work is None:
            work = found[lease.pool] = OpenWork()
        work.by_model[lease.model] += 1
        if not lease.serving:
            work.prefill_tokens += lease.prefill_tokens
    return found


def _work_s(prefill_tokens: float, prompt_tokens: float, output_tokens: float) -> float:
    decode_s = DECODE_TOKEN_S + CONTEXT_TOKEN_S * prompt_tokens
    return PREFILL_TOKEN_S * prefill_tokens + output_tokens * decode_s


def _model(pool: _Pool, name: str, now: float) -> _Model:
    model = pool.models.get(name)
    if model is None:
        model = pool.models[name] = _Model(DecayingRate(now), DecayingRate(now))
        if len(pool.models) > MOST_MODELS:
            pool.models.popitem(last=False)  # the one not asked for the longest
    pool.models.move_to_end(name)
    return model
