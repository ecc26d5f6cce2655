"""Adapters take slots, keep them while in use, and make room in the order they fell idle."""

from pointsman_simulator.core.lora_slots import LoraSlots


def test_an_adapter_is_loaded_once_while_it_stays_resident() -> None:
    slots = LoraSlots(2)
    assert slots.start("a")
    assert not slots.start("a")
    slots.stop("a")
    slots.stop("a")
    assert not slots.start("a")


def test_there_is_no_room_for_another_adapter_while_all_slots_are_in_use() -> None:
    slots = LoraSlots(2)
    slots.start("a")
    slots.start("b")
    assert slots.has_room("a")
    assert not slots.has_room("c")
    slots.stop("b")
    assert slots.has_room("c")


def test_the_adapter_idle_for_longest_makes_room() -> None:
    slots = LoraSlots(2)
    slots.start("a")
    slots.start("b")
    slots.stop("b")
    slots.stop("a")
    assert slots.start("c")  # in place of b
    assert not slots.start("a")
    slots.stop("a")
    assert slots.start("b")


def test_running_and_waiting_adapters_are_told_apart() -> None:
    slots = LoraSlots(2)
    slots.wait("b")
    slots.wait("a")
    slots.wait("a")
    assert slots.adapters() == ((), ("a", "b"))
    slots.leave_queue("a")
    slots.start("a")
    assert slots.adapters() == (("a",), ("a", "b"))
    slots.leave_queue("a")
    slots.stop("a")
    assert slots.adapters() == ((), ("b",))


def test_a_change_is_noted_until_the_adapters_are_read() -> None:
    slots = LoraSlots(2)
    changed = [slots.changed]
    for move in (slots.wait, slots.leave_queue, slots.start, slots.stop):
        move("a")
        changed.append(slots.changed)
        slots.adapters()
        changed.append(slots.changed)
    assert changed == [False] + [True, False] * 4
