from pointsman_common.contracts.scheduling_pb2 import Picked, PickedEndpoint
from pointsman_common.testing.builders import POOL, a_descriptor
from pointsman_ext_proc.core.exchange_events import Dispatched
from pointsman_ext_proc.core.open_lease import OpenLease


def told(picked: Picked) -> str:
    """Who computes the prompt, as the lease tells it."""
    lease = OpenLease(Dispatched("l", a_descriptor(), (), picked), 100.0, 100.5)
    return lease.as_message(edge="ext-proc/a", pool=POOL, now=101.0).prefill_endpoint_uid


def test_peers_learn_which_endpoint_computes_the_prompt_for_another() -> None:
    primary, prefill = (PickedEndpoint(uid=uid) for uid in ("decode-1", "prefill-1"))
    assert told(Picked(endpoints=[primary], prefill=prefill)) == "prefill-1"
    assert told(Picked(endpoints=[primary])) == ""
