"""The flow controller before engines: what one greedy tenant costs the others, on tenants drawn
with the sizes and rates of the ServeGen trace."""

import math
from functools import cache
from random import Random

import pytest

from pointsman_common.errors import SettingsError
from pointsman_replay.adapters.production_admission import AdmissionResult, ProductionAdmission
from pointsman_replay.core.policies.simple import RoundRobin
from pointsman_replay.core.trace import Trace, TraceRequest
from pointsman_simulator.core.engine_profile import H100_8B

FAIR = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: concurrency-detector, parameters: {maxConcurrency: 9}}
- {type: weighted-token-fairness-policy}
flowControl:
  defaultRequestTTL: 0s
  saturationDetector: {pluginRef: concurrency-detector}
  defaultPriorityBand: {fairnessPolicyRef: weighted-token-fairness-policy, maxRequests: 100k}
"""
TENANTS, SECONDS, PER_S = 8, 16.0, 2.0
ENGINES = 2


def tenants(*, greedy: float = 0.0, only: str | None = None) -> Trace:
    """Eight tenants of one rate, and one more that sends `greedy` times as much as each."""
    drawn: list[TraceRequest] = []
    for name, rate in [*((f"t{i}", PER_S) for i in range(TENANTS)), ("greedy", PER_S * greedy)]:
        rng, at_s = Random(name), 0.0
        while rate and (at_s := at_s + rng.expovariate(rate)) < SECONDS:
            prompt, output = (_length(rng, median) for median in (700, 60))
            drawn.append(TraceRequest(at_s, prompt, output, tenant=name))
    kept = [one for one in drawn if only in (None, one.tenant)]
    return Trace("tenants", 0, tuple(sorted(kept, key=lambda one: one.at_s)))


def _length(rng: Random, median: int) -> int:
    return max(1, round(rng.lognormvariate(math.log(median), 0.6)))


@cache
def run(replicas: int) -> AdmissionResult:
    return ProductionAdmission(
        tenants(greedy=10.0), H100_8B, ENGINES, RoundRobin, FAIR, replicas=replicas
    ).run()


def test_a_tenant_that_sends_ten_times_its_share_costs_the_others_nothing() -> None:
    """Each waits about as long as it would with its share of the pool to itself."""
    share = FAIR.replace("maxConcurrency: 9", "maxConcurrency: 2")
    beside = run(1).tenants
    assert beside["greedy"].wait_p99_s > 5 * max(
        beside[f"t{index}"].wait_p99_s for index in range(TENANTS)
    )
    alone = {
        name: ProductionAdmission(tenants(only=name), H100_8B, 1, RoundRobin, share)
        .run()
        .tenants[name]
        for name in (f"t{index}" for index in range(TENANTS))
    }
    # Over all eight: of one alone, with thirty requests, the 99th percentile is chance.
    waits = [sum(found[name].wait_p99_s for name in alone) for found in (alone, beside)]
    assert waits[1] <= 1.2 * waits[0]


def test_three_replicas_give_each_tenant_what_one_gives_it() -> None:
    one, three = run(1).tenants, run(3).tenants
    assert {name: found.requests for name, found in one.items()} == {
        name: found.requests for name, found in three.items()
    }
    others = [f"t{index}" for index in range(TENANTS)]
    waits = [sum(result[name].wait_p50_s for name in others) / TENANTS for result in (one, three)]
    assert waits[1] <= waits[0] + 0.05


def test_a_config_that_cannot_be_used_says_why() -> None:
    with pytest.raises(SettingsError, match="no-such-policy"):
        ProductionAdmission(
            tenants(greedy=1.0),
            H100_8B,
            1,
            RoundRobin,
            FAIR.replace("fairnessPolicyRef: weighted-token", "fairnessPolicyRef: no-such-policy"),
        )
