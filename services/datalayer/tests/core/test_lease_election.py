"""At most one replica writes at a time."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pointsman_datalayer.core.lease_election import LeaseElection, LeaseRecord, Move

DURATION_S = 15.0


def an_election(identity: str = "a") -> LeaseElection:
    return LeaseElection(identity, DURATION_S)


def test_a_lease_that_nobody_holds_is_taken() -> None:
    assert an_election().next_move(LeaseRecord(), 0.0) is Move.TAKE
    assert an_election().next_move(LeaseRecord(holder="", transitions=4), 0.0) is Move.TAKE


def test_ones_own_lease_is_renewed_and_one_leads_until_it_might_be_taken() -> None:
    election = an_election()
    assert not election.leads(0.0)
    assert election.next_move(LeaseRecord(holder="a"), 0.0) is Move.RENEW
    election.renewed(0.0)
    assert election.leads(9.9)
    assert not election.leads(10.0)


def test_anothers_lease_is_waited_for_until_it_has_not_changed_for_its_time() -> None:
    election, record = an_election(), LeaseRecord(holder="b", renewed_at="1")
    assert election.next_move(record, 100.0) is Move.WAIT
    assert election.next_move(replace(record, renewed_at="2"), 114.0) is Move.WAIT
    assert election.next_move(replace(record, renewed_at="2"), 128.9) is Move.WAIT
    assert election.next_move(replace(record, renewed_at="2"), 129.0) is Move.TAKE


def test_one_whose_lease_was_taken_stops_at_once() -> None:
    election = an_election()
    election.renewed(0.0)
    election.next_move(LeaseRecord(holder="b"), 1.0)
    assert not election.leads(1.0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.1, 20.0)), max_size=60))
def test_two_replicas_never_lead_at_once(looks: list[tuple[str, float]]) -> None:
    """Each look reads the lease and writes as told; either may be silent for any time."""
    elections = {name: an_election(name) for name in "ab"}
    record, now = LeaseRecord(), 0.0
    for name, pause_s in looks:
        now += pause_s
        if elections[name].next_move(record, now) is not Move.WAIT:
            record = replace(record, holder=name, renewed_at=str(now))
            elections[name].renewed(now)
        assert not all(election.leads(now) for election in elections.values())
