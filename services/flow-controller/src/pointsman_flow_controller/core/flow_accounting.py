"""What each request means for its flow: counters, charges, and what is left of a tenant's limit."""

from collections.abc import Sequence

from pointsman_flow_controller.core.flow_queue import FlowQueue, QueuedRequest
from pointsman_flow_controller.core.flow_registry import FlowRegistry
from pointsman_flow_controller.core.plugin_protocols import UsageLimitPolicy
from pointsman_flow_controller.core.queue_outcome import QueueOutcome
from pointsman_flow_controller.core.service_accounts import Charge, ServiceAccounts, newer_mean
from pointsman_flow_controller.core.share_board import Service
from pointsman_flow_controller.core.share_tally import ShareTally


class FlowAccounting:
    """Tells the fairness policies, the usage limit and, through the tally, the other replicas."""

    def __init__(
        self, registry: FlowRegistry, usage_limit: UsageLimitPolicy, tally: ShareTally
    ) -> None:
        self.registry, self.usage_limit = registry, usage_limit
        self._tally, self._accounts = tally, ServiceAccounts()
        self._mean_output_tokens: float | None = None

    def expected_output_tokens(self, request: QueuedRequest, flow: FlowQueue) -> int:
        """What the latest answers to the flow, else to anybody, let expect."""
        mean = flow.mean_output_tokens or self._mean_output_tokens or 0.0
        asked = request.max_output_tokens
        return int(min(mean, asked) if asked else mean)

    def taken(self, request: QueuedRequest, now: float) -> float:
        """Count a request against its tenant's limit; see `UsageLimitPolicy.take`."""
        if not self.usage_limit.limits_tenants:
            return 0.0
        return self.usage_limit.take(request.fairness_id, request.prompt_tokens, now)

    def entered(self, request: QueuedRequest) -> None:
        """It begins to wait."""
        if request.flow is not None:
            self._tally.touch(request.priority, request.flow)

    def dispatched(self, request: QueuedRequest, now: float) -> None:
        """It goes; charged with what it is expected to cost."""
        flow, band = request.flow, self.registry.bands.get(request.priority)
        if flow is None or band is None:
            return
        self._tally.touch(request.priority, flow)
        wait_s = now - request.arrived_at
        flow.waits.add(wait_s)
        band.waits.add(wait_s)
        flow.dispatched += 1
        band.dispatched += 1
        name, prompt, output = (
            request.fairness_id,
            request.prompt_tokens,
            request.expected_output_tokens,
        )
        flow.prompt_tokens += prompt
        flow.output_tokens += output
        band.fairness.dispatched(name)
        band.fairness.charge(name, prompt, output)
        self._accounts.opened(request.lease_id, Charge(request.priority, name, prompt, output))
        if output and self.usage_limit.limits_tenants:
            self.usage_limit.spent(name, 0.0, output, now)

    def refused(self, request: QueuedRequest, outcome: QueueOutcome, now: float) -> None:
        """It leaves without having been let go, and uses nothing."""
        flow, band = request.flow, self.registry.bands.get(request.priority)
        if flow is None or band is None:
            return
        self._tally.touch(request.priority, flow)
        flow.left[outcome] += 1
        band.left[outcome] += 1
        if self.usage_limit.limits_tenants and outcome is not QueueOutcome.REJECTED_LIMIT:
            self.usage_limit.spent(request.fairness_id, -1.0, -request.prompt_tokens, now)

    def picked(self, lease_id: str, *, prefill_tokens: int, now: float) -> None:
        """It is known of how many prompt tokens the chosen endpoint has no cache."""
        charge = self._accounts.picked(lease_id, prefill_tokens=prefill_tokens)
        if charge is not None:
            self._charge(charge, now)

    def finished(
        self,
        lease_id: str,
        now: float,
        *,
        prompt_tokens: int | None,
        cached_tokens: int | None,
        output_tokens: int | None,
    ) -> None:
        """A request, of whatever replica, is over. `None`: the engine did not tell."""
        if output_tokens:
            self._mean_output_tokens = newer_mean(self._mean_output_tokens, output_tokens)
        charge = self._accounts.finished(
            lease_id,
            prompt_tokens=prompt_tokens,
            cached_tokens=cached_tokens,
            output_tokens=output_tokens,
        )
        if charge is not None:
            self._charge(charge, now, answer_tokens=output_tokens)

    def served_elsewhere(self, services: Sequence[Service], now: float) -> None:
        """Other replicas have let these go: their flows are charged here, too."""
        for service in services:
            band = self.registry.bands.get(service.priority)
            name, prompt, output = (
                service.fairness_id,
                service.prompt_tokens,
                service.output_tokens,
            )
            if band is not None:
                band.fairness.dispatched_elsewhere(name, service.requests)
                band.fairness.charge(name, prompt, output)
            if self.usage_limit.limits_tenants:
                self.usage_limit.spent(name, service.requests, prompt + output, now)

    def _charge(self, charge: Charge, now: float, *, answer_tokens: int | None = None) -> None:
        """What a request costs is known better now."""
        band = self.registry.bands.get(charge.priority)
        flow = band.flows.get(charge.fairness_id) if band is not None else None
        if band is not None and flow is not None:
            self._tally.touch(charge.priority, flow)
            flow.prompt_tokens += charge.prompt_tokens
            flow.output_tokens += charge.output_tokens
            if answer_tokens:
                flow.mean_output_tokens = newer_mean(flow.mean_output_tokens, answer_tokens)
            band.fairness.charge(charge.fairness_id, charge.prompt_tokens, charge.output_tokens)
        if self.usage_limit.limits_tenants:
            tokens = charge.prompt_tokens + charge.output_tokens
            self.usage_limit.spent(charge.fairness_id, 0.0, tokens, now)
