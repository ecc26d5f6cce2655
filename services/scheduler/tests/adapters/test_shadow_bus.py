"""A shadow says what it found and that it lives, and nothing else, whatever it tries."""

import inspect

import pytest

from pointsman_common import subjects
from pointsman_common.errors import BusUnavailableError
from pointsman_common.testing.builders import POOL
from pointsman_common.testing.in_memory_bus import InMemoryBus
from pointsman_scheduler.adapters.shadow_bus import ShadowBus

ALLOWED = {subjects.HEARTBEAT, subjects.shadow(POOL, "canary")}


def every_subject() -> list[str]:
    """One of each function of subjects.py."""
    functions = [
        function
        for name, function in vars(subjects).items()
        if inspect.isfunction(function) and not name.startswith("_") and name != "pool_of"
    ]
    words = (POOL, "canary")
    return [
        function(*words[: len(inspect.signature(function).parameters)]) for function in functions
    ]


def test_only_its_own_reports_and_its_heartbeat_pass() -> None:
    bus = InMemoryBus()
    shadow = ShadowBus(bus, "canary")
    tried = [*every_subject(), subjects.HEARTBEAT, subjects.shadow(POOL, "another"), "_INBOX.x", ""]
    for subject in tried:
        shadow.publish(subject, b"x")
    assert {subject for subject, _ in bus.published} == ALLOWED
    assert shadow.withheld == len(tried) - len(bus.published)
    assert len(tried) > 10


async def test_it_asks_and_answers_nobody() -> None:
    bus = InMemoryBus()
    shadow = ShadowBus(bus, "canary")
    end = shadow.respond(subjects.leases_query(POOL), lambda *_: b"lies")
    assert await bus.query(subjects.leases_query(POOL), b"", timeout_s=0.1) == []
    end()
    with pytest.raises(BusUnavailableError):
        await shadow.query(subjects.leases_query(POOL), b"", timeout_s=0.1)
    assert not bus.published


def test_it_hears_everything() -> None:
    bus, heard = InMemoryBus(), list[str]()
    ShadowBus(bus, "canary").subscribe(subjects.decision(POOL), lambda *said: heard.append(said[0]))
    bus.publish(subjects.decision(POOL), b"x")
    assert heard == [subjects.decision(POOL)]
