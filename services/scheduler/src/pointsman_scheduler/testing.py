"""What tests of plugins and policies need: candidates, requests, and a scheduler over one pool."""

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import yaml

from pointsman_common.endpoint import Endpoint
from pointsman_common.endpoint_picker_config import DEFAULT_CONFIG
from pointsman_common.in_flight import LeaseTable
from pointsman_common.inference_pool import InferencePool
from pointsman_common.pool_view import PoolView
from pointsman_common.testing.builders import POOL, a_descriptor, a_pool_config, a_snapshot
from pointsman_scheduler.core.candidates import Candidates
from pointsman_scheduler.core.endpoint_table import EndpointTable
from pointsman_scheduler.core.picking import DEFAULT_LIMITS, Pick, Picking, StateLimits
from pointsman_scheduler.core.scheduler import Decision, Refusal, Refused
from pointsman_scheduler.core.scheduling_profile import totals_by_address
from pointsman_scheduler.core.scheduling_request import SchedulingRequest, request_of
from pointsman_scheduler.plugins.catalogue import PLUGINS

NOW = 1_000.0


def a_config(
    *plugins: str | dict[str, Any], weights: Mapping[str, float] | None = None, **sections: Any
) -> str:
    """EndpointPickerConfig of these plugins in one profile, all of them in it."""
    entries = [{"type": item} if isinstance(item, str) else item for item in plugins]
    names = [entry.get("name", entry["type"]) for entry in entries]
    used = [name for name in names if not name.endswith(("producer", "handler"))]
    document = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": entries,
        "schedulingProfiles": [
            {
                "name": "default",
                "plugins": [
                    {"pluginRef": name, "weight": (weights or {}).get(name, 1.0)} for name in used
                ],
            }
        ],
        **sections,
    }
    return yaml.safe_dump(document, sort_keys=False)


QK = a_config("queue-scorer", "kv-cache-utilization-scorer")


class Desk:
    """A scheduler with one pool, whose picks are asked for one after the other."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        config: str = DEFAULT_CONFIG,
        *,
        seed: int = 1,
        limits: StateLimits = DEFAULT_LIMITS,
    ) -> None:
        self.view, self.leases = PoolView(max_age_s=10.0), LeaseTable()
        self.picking = Picking(
            self.view,
            self.leases,
            PLUGINS,
            config,
            rng=Random(seed),
            replica="desk",
            limits=limits,
        )
        self._sequence = 0
        self.view.apply_config(a_pool_config())
        self.say(endpoints)

    def say(self, endpoints: Iterable[Endpoint], *, now: float = NOW) -> None:
        """The datalayer tells of these endpoints."""
        self._sequence += 1
        self.view.apply_snapshot(a_snapshot(endpoints, sequence=self._sequence, now=now), now)

    def publish_config(self, text: str) -> None:
        """The pool publishes a configuration."""
        self._sequence += 1
        pool = InferencePool(name=POOL, hash=f"h{self._sequence}", endpoint_picker_config=text)
        self.view.apply_config(a_pool_config(pool))
        self.picking.apply_config(POOL)

    def pick(
        self, *, lease_id: str = "", now: float = NOW, given: Sequence[Endpoint] = (), **fields: Any
    ) -> Pick:
        """Pick and reserve, as the hook does. `fields` are a_descriptor's, or the message's."""
        own = {"subset", "block_hashes", "prompt_tokens", "model", "pool", "fairness_id"}
        descriptor = a_descriptor(**{key: fields[key] for key in fields.keys() & own})
        for key in fields.keys() - own:
            if key == "headers":
                descriptor.headers.update(fields[key])
            else:
                setattr(descriptor, key, fields[key])
        pick = self.picking.pick(descriptor, lease_id, now, given=given)
        self.picking.reserve(pick, now)
        return pick

    def where(self, **fields: Any) -> str:
        """Uid of the endpoint that a request goes to."""
        return decided(self.pick(**fields)).endpoints[0].uid


def decided(pick: Pick) -> Decision:
    """The decision; a refusal fails the test."""
    if isinstance(pick.outcome, Refused):
        raise AssertionError(pick.outcome.refusal)
    return pick.outcome


def refusal(pick: Pick) -> Refusal:
    """The refusal; a decision fails the test."""
    if isinstance(pick.outcome, Decision):
        raise AssertionError(pick.outcome.endpoints)
    return pick.outcome.refusal


def scores(pick: Pick) -> dict[str, float]:
    """Final sums by uid."""
    decision, candidates = decided(pick), pick.candidates
    if candidates is None:
        raise AssertionError("no candidates")
    uids = {endpoint.address: endpoint.uid for endpoint in candidates.endpoints}
    totals = totals_by_address(decision.runs[decision.profile], candidates)
    return {uids[address]: total for address, total in totals.items()}


def candidates_of(
    endpoints: Sequence[Endpoint],
    *,
    cached: Sequence[int] | None = None,
    leases: LeaseTable | None = None,
    now: float = NOW,
) -> Candidates:
    """Candidates for a plugin alone."""
    table = EndpointTable((leases or LeaseTable()).load, fresh_s=1.0, half_life_s=5.0)
    table.replace(endpoints)
    return table.candidates(now, np.array(cached or [0] * len(endpoints), dtype=np.float64))


def a_request(
    *, mean_output_tokens: float | None = None, seed: int = 1, **fields: Any
) -> SchedulingRequest:
    headers = fields.pop("headers", {})
    descriptor = a_descriptor(**fields)
    descriptor.headers.update(headers)
    return request_of(
        descriptor,
        max_blocks=None,
        max_tokens=None,
        mean_output_tokens=mean_output_tokens,
        seed=seed,
    )
