import pytest

from pointsman_common.errors import BusUnavailableError
from pointsman_common.testing.in_memory_bus import InMemoryBus


def test_messages_are_delivered_at_once_to_who_matches() -> None:
    bus, got = InMemoryBus(), list[tuple[str, bytes]]()
    end = bus.subscribe("a.*", lambda *message: got.append(message))
    bus.publish("a.b", b"1")
    bus.publish("b.b", b"2")
    end()
    end()
    bus.publish("a.b", b"3")
    assert got == [("a.b", b"1")]
    assert bus.sent("a.b") == [b"1", b"3"]


def test_while_it_is_away_messages_are_dropped_and_counted() -> None:
    bus, got, back = InMemoryBus(), list[bytes](), list[str]()
    bus.subscribe("a", lambda _, payload: got.append(payload))
    bus.on_reconnect(lambda: back.append("back"))
    bus.take_away()
    bus.publish("a", b"1")
    bus.bring_back()
    bus.publish("a", b"2")
    assert (got, bus.dropped, back) == ([b"2"], 1, ["back"])


async def test_queries_gather_answers_and_need_the_bus() -> None:
    bus = InMemoryBus()
    bus.respond("q", lambda _, payload: payload)
    bus.respond("q", lambda *_: None)
    end = bus.respond("*", lambda *_: b"x")
    assert await bus.query("q", b"1", timeout_s=1) == [b"1", b"x"]
    end()
    end()
    assert await bus.query("q", b"1", timeout_s=1) == [b"1"]
    bus.take_away()
    with pytest.raises(BusUnavailableError):
        await bus.query("q", b"1", timeout_s=1)
