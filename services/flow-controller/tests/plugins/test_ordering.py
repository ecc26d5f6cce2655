import math

from hypothesis import given
from hypothesis import strategies as st

from pointsman_flow_controller.core.flow_queue import QueuedRequest
from pointsman_flow_controller.plugins.ordering.shortest_predicted import (
    ShortestPredictedOrderingPolicy,
)
from pointsman_flow_controller.plugins.ordering.slo_slack import SloSlackOrderingPolicy


def test_of_two_requests_due_at_the_same_time_the_longer_prompt_goes_first() -> None:
    policy = SloSlackOrderingPolicy(prefill_tokens_per_s=1_000)
    short = QueuedRequest("short", arrived_at=10.0, ttft_slo_s=2.0, prompt_tokens=100)
    long = QueuedRequest("long", arrived_at=10.0, ttft_slo_s=2.0, prompt_tokens=1_500)
    assert policy.rank(long) < policy.rank(short) < policy.rank(QueuedRequest("none"))
    assert policy.rank(QueuedRequest("none")) == math.inf


def test_the_shortest_predicted_goes_first() -> None:
    policy = ShortestPredictedOrderingPolicy()
    chat = QueuedRequest("chat", prompt_tokens=200, expected_output_tokens=50)
    summary = QueuedRequest("summary", prompt_tokens=20_000, expected_output_tokens=50)
    story = QueuedRequest("story", prompt_tokens=200, expected_output_tokens=2_000)
    assert policy.rank(chat) < policy.rank(summary) < policy.rank(story)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.01, 5))
def test_nothing_overtakes_a_request_that_has_aged_enough(
    predicted_s: float, later_s: float, ageing: float
) -> None:
    policy = ShortestPredictedOrderingPolicy(
        prefill_tokens_per_s=1_000, decode_tokens_per_s=1_000, ageing=ageing
    )
    old = QueuedRequest("old", prompt_tokens=int(predicted_s * 1_000), arrived_at=0.0)
    new = QueuedRequest("new", prompt_tokens=0, arrived_at=later_s)
    if later_s > predicted_s / ageing:
        assert policy.rank(old) < policy.rank(new)
