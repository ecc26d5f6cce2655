import asyncio
from typing import Any

import pytest

from pointsman_common import subjects
from pointsman_common.contracts import events_pb2
from pointsman_common.envelope import EnvelopeStamp
from pointsman_common.in_flight import LeaseTable, decode_lease
from pointsman_common.lease_subscriber import LeaseSubscriber
from pointsman_common.testing.builders import (
    POOL,
    a_descriptor,
    a_snapshot,
    an_endpoint,
    an_envelope,
)
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_common.testing.virtual_clock import settle
from pointsman_ext_proc.adapters.lease_book import LeaseRules
from pointsman_ext_proc.core.exchange_events import Usage
from pointsman_ext_proc.core.logged_end import LoggedEnd
from pointsman_ext_proc.core.open_lease import LeaseEnd
from pointsman_ext_proc.core.told_descriptors import When

FINISHED = LeaseEnd(200, "finished", 10, Usage(7, 10, 3))


async def test_a_lease_is_told_of_when_it_opens_serves_and_ends(running: Any) -> None:
    desk = await running()
    lease_id = desk.open()
    await desk.clock.advance(0.5)
    desk.book.first_chunk(lease_id, streaming=True)
    desk.book.first_chunk(lease_id, streaming=True)
    await desk.clock.advance(1.5)
    desk.book.end(lease_id, FINISHED)
    desk.book.end(lease_id, FINISHED)
    await desk.clock.advance(0.01)
    (picked,), (serving,), (finished,) = (
        desk.told(kind) for kind in ("picked", "serving", "finished")
    )
    assert (picked.lease.endpoint_uid, picked.lease.edge) == ("e1", "ext-proc/a")
    assert (picked.lease.prompt_tokens, picked.lease.prefill_tokens) == (100, 40)
    assert picked.lease.decision_id == "d1"
    assert [item.uid for item in picked.fallbacks] == ["e2"]
    assert (serving.lease_id, serving.ttft_ms, serving.moved) == (lease_id, 500, False)
    assert (finished.http_status, finished.cause, finished.duration_ms) == (200, "finished", 2000)
    counts = (finished.prompt_tokens, finished.output_tokens, finished.cached_tokens)
    assert counts == (7, 10, 3)
    assert finished.ttft_ms == 500
    assert len(desk.ended) == 1
    assert len(desk.book) == 0


async def test_an_answer_in_one_piece_has_no_first_token_signal(running: Any) -> None:
    desk = await running()
    lease_id = desk.open(stream=False)
    desk.book.first_chunk(lease_id, streaming=False)
    desk.book.end(lease_id, FINISHED)
    await desk.clock.advance(0.01)
    assert desk.told("serving") == []
    assert desk.told("finished")[0].HasField("ttft_ms")


async def test_counts_that_were_not_told_are_absent(running: Any) -> None:
    desk = await running()
    desk.book.end(desk.open(), LeaseEnd(0, "client-gone"))
    await desk.clock.advance(0.01)
    (finished,) = desk.told("finished")
    assert not finished.HasField("output_tokens")
    assert not finished.HasField("ttft_ms")


def test_ids_are_unique_among_edges_and_tell_nothing(new_desk: Any) -> None:
    one, two = new_desk().book, new_desk().book
    ids = [book.new_id() for book in (one, two) for _ in range(2_000)]
    assert len(set(ids)) == 4_000
    assert all(len(lease_id) < 20 and "ext" not in lease_id for lease_id in ids)


async def test_a_lease_moves_to_the_endpoint_that_served(running: Any) -> None:
    desk = await running()
    early, late, same = desk.open(), desk.open(), desk.open()
    desk.book.served(early, "10.0.0.2:8000")
    desk.book.first_chunk(late, streaming=True)
    desk.book.served(late, "10.0.0.2:8000")
    desk.book.served(same, "10.0.0.1:8000")
    desk.book.served(same, "192.168.0.1:80")
    await desk.clock.advance(0.01)
    moved = [event.lease.endpoint_uid for event in desk.told("picked")]
    assert moved == ["e1", "e1", "e1", "e2"]
    assert [(event.endpoint_uid, event.moved) for event in desk.told("serving")] == [
        ("e1", False),
        ("e2", True),
    ]
    table = LeaseTable()

    for event in desk.told("picked"):
        table.open(decode_lease(event.lease, 1_000.0), 1_000.0)
    for event in desk.told("serving"):
        table.serve(event.lease_id, moved_to=event.endpoint_uid if event.moved else "")
    assert (table.load("e1").requests, table.load("e2").requests) == (1, 2)
    # The primary did not take the request: it is left out until the datalayer speaks of it.
    record = desk.view.get(POOL)
    assert record is not None
    assert not record.endpoints["e1"].ready


async def test_prompt_blocks_travel_once_for_each_endpoint(running: Any) -> None:
    desk = await running()
    desk.open(block_hashes=[1, 2])
    desk.open(block_hashes=[1, 2, 3])
    await desk.clock.advance(0.01)
    first, second = desk.told("picked")
    assert (first.first_block, len(first.prompt_block_hashes)) == (0, 16)
    assert (second.first_block, len(second.prompt_block_hashes)) == (2, 8)
    assert not first.HasField("descriptor")


async def test_descriptors_are_sent_whole_for_15_s_after_a_shadow_wants_them(running: Any) -> None:
    desk = await running(LeaseRules(pool=POOL, publish_descriptors="auto"))
    subject = subjects.shadow(POOL, "canary")
    for wants, wait_s in ((False, 1.0), (True, 14.0), (None, 2.0)):
        if wants is not None:
            report = events_pb2.ShadowReport(pool=POOL, wants_descriptors=wants)
            desk.bus.publish(subject, report.SerializeToString())
        desk.open(block_hashes=[1, 2])
        await desk.clock.advance(wait_s)
    desk.bus.publish(subject, b"\xff")  # a shadow may say anything
    desk.open()
    await desk.clock.advance(0.01)
    told = [event.HasField("descriptor") for event in desk.told("picked")]
    assert told == [False, True, True, False]
    whole = desk.told("picked")[2]
    assert whole.descriptor.request_id == "r1"
    assert len(whole.descriptor.prompt_block_hashes) == 16
    assert (whole.first_block, whole.prompt_block_hashes) == (2, b"")


@pytest.mark.parametrize(("when", "told"), [("always", True), ("never", False)])
async def test_descriptors_can_be_sent_always_and_never(
    running: Any, when: When, told: bool
) -> None:
    desk = await running(LeaseRules(pool=POOL, publish_descriptors=when))
    report = events_pb2.ShadowReport(pool=POOL, wants_descriptors=True)
    desk.bus.publish(subjects.shadow(POOL, "canary"), report.SerializeToString())
    desk.open()
    await desk.clock.advance(0.01)
    assert desk.told("picked")[0].HasField("descriptor") == told


async def test_picks_with_large_descriptors_stay_below_the_limit_of_the_bus(running: Any) -> None:
    desk = await running(LeaseRules(pool=POOL, publish_descriptors="always"))
    for number in range(60):
        desk.open(block_hashes=range(number * 3000, number * 3000 + 2048))
    await desk.clock.advance(0.01)
    assert len(desk.told("picked")) == 60
    sizes = [len(payload) for payload in desk.bus.sent(subjects.request_picked(POOL))]
    assert max(sizes) < 500_000


async def test_a_lease_without_end_is_given_up_as_lost(running: Any) -> None:
    desk = await running(LeaseRules(pool=POOL, max_lease_s=60.0))
    desk.open()
    await desk.clock.advance(30.0)
    desk.open()
    await desk.clock.advance(31.0)
    assert len(desk.book) == 1
    assert [event.cause for event in desk.told("finished")] == ["lost"]


async def test_leases_that_an_idle_engine_contradicts_are_settled_as_lost(running: Any) -> None:
    desk = await running()
    lost = desk.open()
    await desk.clock.advance(2.0)
    for sequence in range(2, 12):  # the engine says, second after second, that it has nothing to do
        now = desk.clock.monotonic()
        idle = [an_endpoint(index, waiting=0, running=0, read_at=now) for index in (1, 2)]
        desk.view.apply_snapshot(a_snapshot(idle, sequence=sequence, now=now), now)
        await desk.clock.advance(1.0)
    assert [(lease.lease_id, end.cause) for lease, end, _ in desk.ended] == [(lost, "lost")]
    assert desk.told("finished")[0].lease_id == lost


async def test_a_lease_that_the_engine_works_on_stays_open(running: Any) -> None:
    desk = await running()
    desk.open()
    await desk.clock.advance(2.0)
    for sequence in range(2, 12):
        now = desk.clock.monotonic()
        busy = [an_endpoint(index, waiting=0, running=1, read_at=now) for index in (1, 2)]
        desk.view.apply_snapshot(a_snapshot(busy, sequence=sequence, now=now), now)
        await desk.clock.advance(1.0)
    assert desk.ended == []


async def test_beyond_the_limit_the_oldest_lease_is_given_up(running: Any) -> None:
    desk = await running(LeaseRules(pool=POOL, max_open=2))
    first, *_ = [desk.open() for _ in range(3)]
    await desk.clock.advance(0.01)
    assert len(desk.book) == 2
    assert [event.lease_id for event in desk.told("finished")] == [first]


async def test_the_access_log_ends_an_own_lease_with_its_cause(running: Any) -> None:
    desk = await running(LeaseRules(pool=POOL, ends_in_access_log=True))
    lease_id = desk.open()
    logged = LoggedEnd(lease_id, 503, served="10.0.0.1:8000", connect_failed=True)
    desk.book.ended_in_access_log(logged)
    desk.book.ended_in_access_log(logged)
    await desk.clock.advance(0.01)
    (finished,) = desk.told("finished")
    assert (finished.cause, finished.http_status) == ("connection-failed", 503)
    record = desk.view.get(POOL)
    assert record is not None
    assert not record.endpoints["e1"].ready


async def test_any_edge_tells_the_end_that_its_access_log_shows_and_the_owner_closes(
    running: Any,
) -> None:
    bus = InMemoryBus()
    rules = LeaseRules(pool=POOL, ends_in_access_log=True)
    owner = await running(rules, "ext-proc/owner", bus)
    other = await running(rules, "ext-proc/other", bus)
    lease_id = owner.open()
    other.book.ended_in_access_log(LoggedEnd(lease_id, 200, served="10.0.0.2:8000", duration_s=2.5))
    await other.clock.advance(0.01)
    (finished,) = other.told("finished")
    assert (finished.endpoint_uid, finished.duration_ms) == ("e2", 2500)
    assert len(owner.book) == 0
    assert [end.http_status for _, end, _ in owner.ended] == [200]


async def test_an_end_that_was_told_already_is_not_told_again(running: Any) -> None:
    bus = InMemoryBus()
    rules = LeaseRules(pool=POOL, ends_in_access_log=True)
    owner = await running(rules, "ext-proc/owner", bus)
    other = await running(rules, "ext-proc/other", bus)
    lease_id = owner.open()
    owner.book.end(lease_id, LeaseEnd(0, "client-gone"))
    await owner.clock.advance(0.01)
    other.book.ended_in_access_log(LoggedEnd(lease_id, 0, client_gone=True))
    await other.clock.advance(0.01)
    assert [event.lease_id for event in owner.told("finished")] == [lease_id]


async def test_where_streams_tell_the_end_foreign_log_entries_are_ignored(running: Any) -> None:
    desk = await running()
    desk.book.ended_in_access_log(LoggedEnd("someone-1", 200))
    await desk.clock.advance(0.01)
    assert desk.told("finished") == []


async def test_a_request_that_a_layer_counted_and_nobody_sent_is_told_to_end(
    running: Any,
) -> None:
    desk = await running()
    desk.book.abandon("lease-9", a_descriptor(), http_status=429, cause="finished")
    desk.book.abandon("lease-10", None, http_status=0, cause="client-gone")
    await desk.clock.advance(0.01)
    assert [(event.lease_id, event.http_status) for event in desk.told("finished")] == [
        ("lease-9", 429),
        ("lease-10", 0),
    ]


async def test_a_late_reader_is_exact_after_asking_and_stays_so(running: Any) -> None:
    desk = await running()
    kept, gone = desk.open(), desk.open()
    await desk.clock.advance(0.01)
    table = LeaseTable()
    stamp = EnvelopeStamp("scheduler/late", desk.clock)
    reader = LeaseSubscriber(desk.bus, desk.clock, table, stamp, pool=POOL)
    task = asyncio.create_task(reader.run())
    await settle()
    assert len(table) == 2
    desk.book.first_chunk(kept, streaming=True)
    desk.book.end(gone, FINISHED)
    desk.open()
    await desk.clock.advance(0.01)
    assert reader.gaps == 0
    assert len(table) == 2
    assert table.load("e1").serving == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_events_under_load_are_gathered_and_the_first_goes_at_once(running: Any) -> None:
    desk = await running()
    subject = subjects.request_picked(POOL)
    desk.open()
    await settle()
    assert len(desk.bus.sent(subject)) == 1
    for _ in range(100):
        desk.open()
    await settle()
    assert len(desk.bus.sent(subject)) == 1
    await desk.clock.advance(0.002)
    assert len(desk.bus.sent(subject)) == 2
    assert len(desk.told("picked")) == 101


async def test_a_burst_is_cut_into_messages_of_a_size_that_the_bus_takes(running: Any) -> None:
    desk = await running()
    for _ in range(2_500):
        desk.open()
    await settle()
    assert len(desk.bus.sent(subjects.request_picked(POOL))) == 3
    assert len(desk.told("picked")) == 2_500


async def test_draining_hands_everything_over_to_the_bus(new_desk: Any) -> None:
    desk = new_desk()
    desk.book.end(desk.open(), FINISHED)
    await desk.book.drain(1.0)
    assert len(desk.told("finished")) == 1


async def test_other_edges_ends_are_remembered_to_a_bound(
    running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointsman_ext_proc.adapters.lease_book.REMEMBERED_ENDS", 10)
    desk = await running(LeaseRules(pool=POOL, ends_in_access_log=True))
    message = events_pb2.RequestEvents(
        envelope=an_envelope(1, publisher="ext-proc/other"),
        pool=POOL,
        finished=[events_pb2.RequestFinished(lease_id=f"x-{index}") for index in range(100)],
    )
    desk.bus.publish(subjects.request_finished(POOL), message.SerializeToString())
    assert len(desk.book._told) == 10
