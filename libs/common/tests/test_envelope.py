from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.envelope import Arrival, EnvelopeStamp, SequenceReader
from pointsman_common.testing.builders import an_envelope
from pointsman_common.testing.virtual_clock import VirtualClock


def test_each_subject_has_a_sequence_of_its_own_from_one() -> None:
    stamp = EnvelopeStamp("edge/a", VirtualClock(wall=1_700_000_000.5))
    heads = [stamp.next("x"), stamp.next("x"), stamp.next("y")]
    assert [head.sequence for head in heads] == [1, 2, 1]
    assert {(head.publisher, head.epoch) for head in heads} == {("edge/a", 1_700_000_000_500)}
    assert heads[0].sent_at == 1_700_000_000.5


def test_the_last_envelope_repeats_without_counting() -> None:
    stamp = EnvelopeStamp("edge/a", VirtualClock())
    assert stamp.last("x").sequence == 0
    stamp.next("x")
    assert [stamp.last("x").sequence, stamp.last("x").sequence, stamp.next("x").sequence] == [
        1,
        1,
        2,
    ]


def test_a_forgotten_subject_takes_no_memory() -> None:
    stamp = EnvelopeStamp("edge/a", VirtualClock())
    stamp.next("x")
    stamp.forget("x")
    assert stamp.last("x").sequence == 0


def test_messages_are_next_gap_or_old() -> None:
    reader = SequenceReader()
    judged = [reader.judge(an_envelope(sequence)) for sequence in (1, 2, 2, 1, 4, 3, 5)]
    assert judged == [
        Arrival.NEXT,
        Arrival.NEXT,
        Arrival.OLD,
        Arrival.OLD,
        Arrival.GAP,
        Arrival.OLD,
        Arrival.NEXT,
    ]


def test_a_reader_that_starts_late_has_a_gap() -> None:
    assert SequenceReader().judge(an_envelope(7)) is Arrival.GAP


def test_publishers_do_not_disturb_each_other() -> None:
    reader = SequenceReader()
    assert reader.judge(an_envelope(1, publisher="a")) is Arrival.NEXT
    assert reader.judge(an_envelope(1, publisher="b")) is Arrival.NEXT
    assert reader.judge(an_envelope(2, publisher="a")) is Arrival.NEXT


def test_a_higher_epoch_starts_over_and_a_lower_one_is_old() -> None:
    reader = SequenceReader()
    reader.judge(an_envelope(9, epoch=1))
    assert reader.judge(an_envelope(1, epoch=2)) is Arrival.NEXT
    assert reader.judge(an_envelope(10, epoch=1)) is Arrival.OLD
    assert reader.judge(an_envelope(2, epoch=3)) is Arrival.GAP
    assert reader.epoch("datalayer/test") == 3
    assert reader.epoch("nobody") is None


def test_a_snapshot_moves_the_reader_forward_and_never_back() -> None:
    reader = SequenceReader()
    reader.restart_at("datalayer/test", 1, 0)
    assert reader.judge(an_envelope(1)) is Arrival.NEXT
    reader.restart_at("datalayer/test", 1, 5)
    assert reader.judge(an_envelope(5)) is Arrival.OLD
    assert reader.judge(an_envelope(6)) is Arrival.NEXT
    reader.restart_at("datalayer/test", 1, 2)
    assert reader.judge(an_envelope(7)) is Arrival.NEXT


def test_a_forgotten_publisher_is_new_again() -> None:
    reader = SequenceReader()
    reader.judge(an_envelope(3))
    reader.forget("datalayer/test")
    assert reader.judge(an_envelope(1)) is Arrival.NEXT


def test_the_longest_silent_publisher_is_forgotten_when_there_are_too_many() -> None:
    reader = SequenceReader(publishers=2)
    for publisher, sequence in [("a", 1), ("b", 1), ("a", 2), ("c", 1)]:
        reader.judge(an_envelope(sequence, publisher=publisher))
    assert reader.epoch("b") is None
    assert reader.epoch("a") == reader.epoch("c") == 1


@given(st.lists(st.integers(1, 30)))
def test_no_message_is_taken_twice_and_every_loss_shows(sequences: list[int]) -> None:
    reader, taken = SequenceReader(), list[int]()
    for sequence in sequences:
        arrival = reader.judge(an_envelope(sequence))
        if arrival is not Arrival.OLD:
            follows = sequence == (taken[-1] if taken else 0) + 1
            assert (arrival is Arrival.NEXT) == follows
            taken.append(sequence)
    assert taken == sorted(set(taken))
