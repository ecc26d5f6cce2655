"""Messages in virtual time: when they arrive, what is lost, who answers."""

from random import Random

import pytest

from pointsman_common.bus import Bus
from pointsman_replay.adapters.virtual_bus import BusTiming, VirtualBus
from pointsman_replay.adapters.virtual_loop import TimelineClock, VirtualLoop
from pointsman_replay.core.timeline import Timeline


class Wire:
    def __init__(self, timing: BusTiming) -> None:
        self.timeline, self.loop = Timeline(), VirtualLoop()
        self.virtual = VirtualBus(self.timeline, self.loop, timing, Random(1))
        self.bus: Bus = self.virtual
        self.heard: list[tuple[float, bytes]] = []

    def hear(self, subject: str, payload: bytes) -> None:
        del subject
        self.heard.append((self.timeline.now, payload))


def test_a_message_arrives_after_the_delay_at_everyone_who_subscribed() -> None:
    wire = Wire(BusTiming(delay_s=0.5))
    wire.bus.subscribe("a.*", wire.hear)
    wire.bus.subscribe("a.b", wire.hear)
    wire.bus.subscribe("b", wire.hear)
    wire.bus.publish("a.b", b"1")
    assert not wire.heard
    wire.timeline.run_until(1.0)
    assert wire.heard == [(0.5, b"1"), (0.5, b"1")]


def test_messages_keep_their_order_even_without_delay() -> None:
    wire = Wire(BusTiming(delay_s=0.0))
    wire.bus.subscribe("a", wire.hear)
    for payload in (b"1", b"2", b"3"):
        wire.bus.publish("a", payload)
    wire.timeline.run_until(0.0)
    assert [payload for _, payload in wire.heard] == [b"1", b"2", b"3"]


def test_who_has_ended_the_subscription_hears_no_more() -> None:
    wire = Wire(BusTiming())
    end = wire.bus.subscribe("a", wire.hear)
    wire.bus.publish("a", b"1")
    end()
    wire.bus.publish("a", b"2")
    wire.timeline.run_until(1.0)
    assert [payload for _, payload in wire.heard] == [b"1"]


def test_about_the_set_share_is_lost_and_counted() -> None:
    wire = Wire(BusTiming(loss=0.2))
    wire.bus.subscribe("a", wire.hear)
    for _ in range(2000):
        wire.bus.publish("a", b"")
    wire.timeline.run_until(1.0)
    assert len(wire.heard) == 2000 - wire.virtual.lost
    assert 320 < wire.virtual.lost < 480


@pytest.mark.parametrize(("delay_s", "answers"), [(0.1, [b"yes"]), (0.2, [])])
def test_a_query_ends_at_its_timeout_with_what_came_back_by_then(
    delay_s: float, answers: list[bytes]
) -> None:
    wire, got = Wire(BusTiming(delay_s=delay_s)), list[tuple[float, list[bytes]]]()
    wire.bus.respond("q", lambda *_: b"yes")
    wire.bus.respond("q", lambda *_: None)

    async def ask() -> None:
        found = await wire.bus.query("q", b"?", timeout_s=0.25)
        got.append((wire.timeline.now, found))

    wire.loop.start(ask())
    wire.timeline.run_until(1.0)
    assert got == [(0.25, answers)]


def test_coroutines_sleep_in_virtual_time() -> None:
    wire, woken = Wire(BusTiming()), list[float]()
    clock = TimelineClock(wire.timeline, wire.loop)

    async def nap() -> None:
        while True:
            await clock.sleep(1.5)
            woken.append(clock.monotonic())

    wire.loop.start(nap())
    wire.timeline.run_until(5.0)
    wire.loop.shut_down()
    wire.timeline.run_until(9.0)
    assert woken == [1.5, 3.0, 4.5]


def test_what_a_coroutine_fails_with_comes_out_at_the_end() -> None:
    wire = Wire(BusTiming())
    clock = TimelineClock(wire.timeline, wire.loop)

    async def fail() -> None:
        await clock.sleep(1.0)
        raise ValueError("why")

    wire.loop.start(fail())
    wire.timeline.run_until(2.0)
    with pytest.raises(ValueError, match="why"):
        wire.loop.shut_down()
