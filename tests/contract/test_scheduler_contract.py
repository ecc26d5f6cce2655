"""What any scheduler must pass: scheduling.v1 over gRPC, and nothing of how it decides.

`SCHEDULER_UNDER_TEST=host:port` names a scheduler; it must know a pool `contract/ready` with the
endpoints 10.0.0.1:8000, 10.0.0.2:8000 and 10.0.0.3:8000 (uids e1, e2, e3), the last not ready, and
a pool `contract/empty` without endpoints. Without it the reference service is started with them.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from support.fake_datalayer import pool_state

from pointsman_common.contracts.layer_pb2 import DescribeResponse
from pointsman_common.contracts.routing_pb2 import RequestDescriptor
from pointsman_common.contracts.scheduling_pb2 import PickRequest, PickResponse
from pointsman_common.inference_pool import InferencePool
from pointsman_common.testing.builders import a_descriptor, an_endpoint
from wire import Channel

PICK = "/pointsman.scheduling.v1.Scheduler/Pick"
READY, EMPTY = "contract/ready", "contract/empty"
ADDRESSES = {"10.0.0.1:8000": "e1", "10.0.0.2:8000": "e2"}


@pytest.fixture(scope="module")
def scheduler(
    under_test: Callable[[str], str | None],
    start_service: Callable[..., Any],
    fake_datalayer: Callable[..., Any],
    free_port: Callable[[], int],
    wait_ready: Callable[..., Any],
    no_bus_url: str,
) -> str:
    """Address of the scheduler."""
    given = under_test("scheduler")
    if given is not None:
        return given
    datalayer = fake_datalayer(
        pool_state(
            InferencePool(name=READY, hash="h1"),
            an_endpoint(1),
            an_endpoint(2),
            an_endpoint(3, ready=False),
        ),
        pool_state(InferencePool(name=EMPTY, hash="h2")),
    )
    address, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    process = start_service(
        "pointsman_scheduler",
        {
            "SCHEDULER_BUS_URL": no_bus_url,
            "SCHEDULER_DATALAYER_URL": datalayer.url,
            "SCHEDULER_LISTEN_ADDRESS": address,
            "SCHEDULER_ADMIN_ADDRESS": admin,
            "SCHEDULER_DRAIN_S": "1",
        },
    )
    wait_ready(process, f"http://{admin}")
    return address


Ask = Callable[..., Awaitable[PickResponse]]


@pytest.fixture
async def ask(scheduler: str) -> AsyncIterator[Ask]:
    channel = Channel(scheduler, max_message_bytes=16 << 20)

    async def call(descriptor: RequestDescriptor, **fields: object) -> PickResponse:
        question = PickRequest(descriptor=descriptor, **fields)  # type: ignore[arg-type]  # a message's own
        reply = await channel.unary(PICK, question.SerializeToString(), timeout_s=5.0)
        return PickResponse.FromString(reply)

    yield call
    await channel.close()


async def test_it_says_what_it_is(scheduler: str) -> None:
    channel = Channel(scheduler)
    reply = await channel.unary("/pointsman.layer.v1.Layer/Describe", b"", timeout_s=5.0)
    await channel.close()
    described = DescribeResponse.FromString(reply)
    assert described.layer == "scheduler"
    assert described.contract_version == "v1"


async def test_it_picks_ready_endpoints_each_once(ask: Ask) -> None:
    picked = (await ask(a_descriptor(pool=READY), lease_id="c1")).picked
    addresses = [endpoint.address for endpoint in picked.endpoints]
    assert addresses
    assert len(set(addresses)) == len(addresses)
    assert set(addresses) <= set(ADDRESSES)
    for endpoint in picked.endpoints:
        assert endpoint.uid in ("", ADDRESSES[endpoint.address])


async def test_tokens_add_up(ask: Ask) -> None:
    picked = (await ask(a_descriptor(pool=READY, prompt_tokens=500))).picked
    assert picked.cached_tokens + picked.prefill_tokens <= 500
    assert picked.predicted_ttft_s >= 0


@pytest.mark.parametrize("entry", ["10.0.0.2:8000", "10.0.0.2"])
async def test_it_stays_within_the_subset(ask: Ask, entry: str) -> None:
    for number in range(10):
        reply = await ask(a_descriptor(f"s{number}", pool=READY, subset=[entry]))
        assert {endpoint.address for endpoint in reply.picked.endpoints} == {"10.0.0.2:8000"}


@pytest.mark.parametrize(
    "descriptor",
    [
        a_descriptor(pool=READY, subset=[]),
        a_descriptor(pool=READY, subset=["10.0.0.99:8000"]),
        a_descriptor(pool=READY, subset=["10.0.0.3:8000"]),
        a_descriptor(pool=EMPTY),
        a_descriptor(pool="contract/unknown"),
    ],
    ids=["empty-subset", "foreign-subset", "not-ready", "empty-pool", "unknown-pool"],
)
async def test_no_candidate_is_a_503_with_its_reason(
    ask: Ask, descriptor: RequestDescriptor
) -> None:
    rejection = (await ask(descriptor)).rejection
    assert rejection.http_status == 503
    assert rejection.code == "ServiceUnavailable"
    assert rejection.reason == "rejected-no-endpoints"
    assert rejection.message == "failed to find endpoint candidates for serving the request"


async def test_a_prompt_that_must_be_cached_and_is_not_is_a_412(ask: Ask) -> None:
    descriptor = a_descriptor(pool=READY, block_hashes=[0xDEAD_BEEF])
    descriptor.cached_only = True
    rejection = (await ask(descriptor)).rejection
    assert rejection.http_status == 412
    assert rejection.code == "PreconditionFailed"


async def test_a_request_without_a_body_or_prompt_is_picked_too(ask: Ask) -> None:
    descriptor = RequestDescriptor(request_id="get", pool=READY, bodiless=True)
    assert (await ask(descriptor)).picked.endpoints


async def test_hostile_block_lists_are_answered(ask: Ask) -> None:
    descriptor = a_descriptor(pool=READY)
    for hashes in (b"\x01", b"x" * 12, b"y" * 8_000_000):
        descriptor.prompt_block_hashes = hashes
        assert (await ask(descriptor)).picked.endpoints


async def test_scores_are_of_the_candidates_and_only_when_asked(ask: Ask) -> None:
    assert not (await ask(a_descriptor(pool=READY))).picked.scores
    scores = (await ask(a_descriptor(pool=READY), want_scores=True)).picked.scores
    assert set(scores) <= set(ADDRESSES)


async def test_a_burst_does_not_pile_on_one_endpoint(ask: Ask) -> None:
    replies = await asyncio.gather(
        *(
            ask(a_descriptor(f"b{number}", pool=READY, prompt_tokens=2000), lease_id=f"b{number}")
            for number in range(40)
        )
    )
    counts = Counter(reply.picked.endpoints[0].address for reply in replies)
    assert min(counts[address] for address in ADDRESSES) >= 8
