"""Who is alive, in the order of a request's way."""

from pointsman_common.contracts.events_pb2 import LayerHeartbeat
from pointsman_common.contracts.flow_pb2 import FlowStats
from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.testing.builders import POOL, an_envelope
from pointsman_datalayer.core.layer_roster import MAX_REPLICAS, LayerRoster


def a_beat(layer: str, replica: str, sequence: int = 1) -> LayerHeartbeat:
    return LayerHeartbeat(
        envelope=an_envelope(sequence, publisher=replica),
        description=DescribeResponse(layer=layer),
        open_leases=sequence,
    )


def test_replicas_stand_in_the_order_of_a_requests_way() -> None:
    roster = LayerRoster()
    for layer in ("custom", "scheduler", "ext-proc", "router"):
        roster.heard(a_beat(layer, f"{layer}/1"), 0.0)
    roster.heard(a_beat("scheduler", "scheduler/0"), 0.0)
    order = [heard.beat.envelope.publisher for heard in roster.replicas(1.0)]
    assert order == ["ext-proc/1", "router/1", "scheduler/0", "scheduler/1", "custom/1"]


def test_a_replica_that_is_silent_is_forgotten() -> None:
    roster = LayerRoster(forget_after_s=30.0)
    roster.heard(a_beat("router", "a"), 0.0)
    assert len(roster.replicas(30.0)) == 1
    assert not roster.replicas(30.1)


def test_an_overtaken_heartbeat_is_ignored() -> None:
    roster = LayerRoster()
    roster.heard(a_beat("router", "a", sequence=5), 0.0)
    roster.heard(a_beat("router", "a", sequence=4), 1.0)
    assert roster.replicas(1.0)[0].beat.open_leases == 5


def test_no_more_replicas_are_held_than_the_bound() -> None:
    roster = LayerRoster()
    for number in range(MAX_REPLICAS + 5):
        roster.heard(a_beat("router", str(number)), 0.0)
    assert len(roster.replicas(0.0)) == MAX_REPLICAS


def test_the_queues_of_a_replica_that_went_are_forgotten() -> None:
    roster = LayerRoster(flows_stale_after_s=5.0)
    roster.told_flows(FlowStats(envelope=an_envelope(publisher="a"), pool=POOL), 0.0)
    roster.told_flows(FlowStats(envelope=an_envelope(publisher="b"), pool=POOL), 3.0)
    assert len(list(roster.flows(POOL, 4.0))) == 2
    assert len(list(roster.flows(POOL, 6.0))) == 1
    assert not list(roster.flows("default/other", 6.0))
