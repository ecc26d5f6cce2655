import pytest

from pointsman_common.in_flight import Lease
from pointsman_flow_controller.core.in_flight_ledger import TOLD_WITHIN_S, InFlightLedger


@pytest.fixture
def ledger() -> InFlightLedger:
    found = InFlightLedger()
    found.opened("a", endpoint="", tokens=100, prefill_tokens=100, now=10.0)
    return found


def test_what_is_let_go_counts_as_waiting_until_metrics_are_read_later(
    ledger: InFlightLedger,
) -> None:
    ledger.opened("a", endpoint="e1", tokens=100, prefill_tokens=100, now=10.002)
    ledger.metrics_read({"e1": 10.005, "e2": 99.0})
    assert ledger.load.unseen == 1
    ledger.metrics_read({"e1": 10.02, "e2": 99.0})
    assert (ledger.load.unseen, ledger.load.requests) == (0, 1)


def test_a_first_token_ends_the_wait(ledger: InFlightLedger) -> None:
    ledger.serving("a")
    assert (ledger.load.unseen, ledger.load.requests) == (0, 1)
    ledger.opened("a", endpoint="e1", tokens=100, prefill_tokens=100, now=10.002)
    assert ledger.load.unseen == 0


def test_nothing_waits_at_an_endpoint_that_is_gone(ledger: InFlightLedger) -> None:
    ledger.opened("a", endpoint="e1", tokens=100, prefill_tokens=100, now=10.002)
    ledger.metrics_read({"e2": 10.0})
    assert ledger.load.unseen == 0


def test_an_endpoint_never_read_shows_nothing(ledger: InFlightLedger) -> None:
    ledger.opened("a", endpoint="e1", tokens=100, prefill_tokens=100, now=10.002)
    ledger.metrics_read({"e1": None})
    assert ledger.load.unseen == 1


def test_what_no_edge_tells_of_is_given_up(ledger: InFlightLedger) -> None:
    ledger.opened("b", endpoint="", tokens=1, prefill_tokens=1, now=10.05)
    assert ledger.next_lapse() == 10.0 + TOLD_WITHIN_S
    ledger.lapse(10.0 + TOLD_WITHIN_S)
    assert ledger.load.unseen == 1
    ledger.opened("b", endpoint="e1", tokens=1, prefill_tokens=1, now=10.06)
    assert ledger.next_lapse() is None
    ledger.lapse(99.0)
    assert ledger.load.unseen == 1


def test_tokens_are_those_of_the_last_word(ledger: InFlightLedger) -> None:
    ledger.opened("a", endpoint="e1", tokens=150, prefill_tokens=150, now=10.1)
    ledger.opened("b", endpoint="e1", tokens=7, prefill_tokens=7, now=10.1)
    assert ledger.load.tokens == 157
    ledger.finished("a")
    ledger.finished("a")
    assert (ledger.load.tokens, ledger.load.requests) == (7, 1)


def test_leases_that_come_and_go_without_an_event_are_taken_over(ledger: InFlightLedger) -> None:
    ledger.agree_with(
        [
            Lease("b", "edge", "p", "e1", prompt_tokens=5, opened_at=9.0),
            Lease("c", "edge", "p", "e1", prompt_tokens=6, opened_at=9.0, serving=True),
        ]
    )
    assert (ledger.load.requests, ledger.load.tokens, ledger.load.unseen) == (2, 11, 1)
    ledger.metrics_read({"e1": 9.5})
    assert ledger.load.unseen == 0
