"""What each flow is charged for its requests: uncached prompt tokens and output tokens.

    let go ──▶ the whole prompt, and the output that the flow's answers let expect
    picked ──▶ the prompt tokens that the endpoint has cached are given back
    finished ──▶ the difference to what the engine counted

So a flow is charged when it is served, not when its answers end, and in the end exactly. A request
is charged by the replica that let it go; the others hear of it from that one.
"""

from collections import OrderedDict
from typing import NamedTuple

MOST_OPEN = 65_536
"""Requests in flight whose end can still be charged; beyond, the oldest stay as they are."""

_NEWEST = 0.1
"""Weight of the newest answer in the mean of a flow's output."""


class Charge(NamedTuple):
    """Of one flow; may be negative."""

    priority: int
    fairness_id: str
    prompt_tokens: int
    output_tokens: int


class ServiceAccounts:
    """The requests that this replica has let go and that are not finished."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Charge] = OrderedDict()

    def opened(self, lease_id: str, charge: Charge) -> None:
        """A request goes; `charge` is what it is expected to cost."""
        self._open[lease_id] = charge
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)

    def picked(self, lease_id: str, *, prefill_tokens: int) -> Charge | None:
        """What is known better now: so many tokens were not cached. `None`: nothing."""
        charged = self._open.get(lease_id)
        if charged is None or charged.prompt_tokens == prefill_tokens:
            return None
        self._open[lease_id] = charged._replace(prompt_tokens=prefill_tokens)
        return charged._replace(
            prompt_tokens=prefill_tokens - charged.prompt_tokens, output_tokens=0
        )

    def finished(
        self,
        lease_id: str,
        *,
        prompt_tokens: int | None,
        cached_tokens: int | None,
        output_tokens: int | None,
    ) -> Charge | None:
        """The same at the end; what the engine did not tell stays as it was charged. `None`: the
        request was let go by another replica, or was never."""
        charged = self._open.pop(lease_id, None)
        if charged is None:
            return None
        prompt = charged.prompt_tokens
        if prompt_tokens is not None and cached_tokens is not None:
            prompt = max(prompt_tokens - cached_tokens, 0)
        output = charged.output_tokens if output_tokens is None else output_tokens
        return charged._replace(
            prompt_tokens=prompt - charged.prompt_tokens,
            output_tokens=output - charged.output_tokens,
        )


def newer_mean(mean: float | None, value: float) -> float:
    """The mean of a flow's output tokens after one more answer."""
    return value if mean is None else mean + _NEWEST * (value - mean)
