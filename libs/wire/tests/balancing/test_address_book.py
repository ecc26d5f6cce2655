"""What names stand for, and when they are asked for."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.address import Endpoint, Target, TcpAddress, UnixAddress, parse_targets
from wire.balancing.address_book import AddressBook, ResolutionSchedule
from wire.balancing.rules import BalancingRules


def book_of(addresses: str, *, most: int = 64) -> AddressBook:
    return AddressBook(parse_targets(addresses), max_addresses_per_name=most)


def hosts(endpoints: list[Endpoint] | tuple[Endpoint, ...]) -> list[str]:
    return [item.address.host for item in endpoints if isinstance(item.address, TcpAddress)]


def test_addresses_are_known_at_once_and_names_are_not() -> None:
    book = book_of("10.0.0.1:80, router:81 ,[::1]:82,unix:///s.sock,10.0.0.1:80")
    assert [str(name.address) for name in book.names] == ["router:81"]
    changes = book.take_changes()
    assert [str(endpoint) for endpoint in changes.added] == [
        "10.0.0.1:80",
        "[::1]:82",
        "unix:///s.sock",
    ]
    assert not changes.removed


@pytest.mark.parametrize("wrong", ["", "router", "a:1,,b:2", "router:http", []])
def test_what_is_no_address_is_refused(wrong: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"neither|needs"):
        parse_targets(wrong)


def test_an_address_goes_by_the_name_that_it_was_found_under() -> None:
    [target] = parse_targets("router:81")
    endpoint = target.endpoint(TcpAddress("10.0.0.7", 81))
    assert (endpoint.authority, endpoint.server_name) == ("router:81", "router")
    assert str(endpoint) == "router:81 (10.0.0.7:81)"
    assert Target(UnixAddress("/s")).endpoint(UnixAddress("/s")).authority == "localhost"


sets = st.sets(st.integers(1, 9), min_size=0, max_size=6)


@given(st.lists(sets, max_size=12))
def test_changes_add_up_to_what_the_name_stands_for(answers: list[set[int]]) -> None:
    book = book_of("router:80,10.9.9.9:80")
    [name] = book.names
    told = {"10.9.9.9"}
    book.take_changes()
    expected: set[str] = set()
    for answer in answers:
        book.learn(name, [TcpAddress(f"10.0.0.{number}", 80) for number in answer])
        expected = {f"10.0.0.{number}" for number in answer} or expected
        changes = book.take_changes()
        added, removed = set(hosts([*changes.added])), set(hosts([*changes.removed]))
        assert not added & told
        assert removed <= told
        told = told - removed | added
        assert told == expected | {"10.9.9.9"}


def test_of_too_many_addresses_the_same_ones_are_taken_each_time() -> None:
    book = book_of("router:80", most=3)
    [name] = book.names
    found = [TcpAddress(f"10.0.0.{number}", 80) for number in range(10)]
    book.learn(name, found)
    assert len(book.take_changes().added) == 3
    book.learn(name, reversed(found))
    assert not book.take_changes().added


RULES = BalancingRules(resolve_interval_s=5.0, resolve_pause_s=0.5)


@given(st.integers(0, 1000), st.floats(0.0, 1e6))
def test_names_are_asked_for_again_after_the_interval(seed: int, now: float) -> None:
    schedule = ResolutionSchedule(RULES, Random(seed))
    schedule.asked(now, is_answered=True)
    assert now + 3.9 <= schedule.due_at <= now + 6.1


@given(st.integers(0, 1000), st.integers(1, 30))
def test_names_without_an_answer_are_asked_for_sooner_and_ever_more_rarely(
    seed: int, failures: int
) -> None:
    schedule = ResolutionSchedule(RULES, Random(seed))
    for _ in range(failures):
        schedule.asked(0.0, is_answered=False)
    assert 0.4 <= schedule.due_at <= 6.1
    schedule.asked(0.0, is_answered=True)
    schedule.asked(0.0, is_answered=False)
    assert schedule.due_at <= 0.61


def test_a_failed_connection_has_the_names_asked_for_soon_but_not_at_once() -> None:
    schedule = ResolutionSchedule(RULES, Random(1))
    assert schedule.due_at < 0
    schedule.asked(100.0, is_answered=True)
    for _ in range(5):
        schedule.hurry()
    assert schedule.due_at == 100.5
