"""Heads of bus messages: written by their sender, judged by their reader."""

from collections import OrderedDict
from enum import Enum

from pointsman_common.clock import Clock
from pointsman_common.contracts.layer_pb2 import Envelope


class EnvelopeStamp:
    """Numbers the messages of one publisher, a sequence per subject."""

    def __init__(self, publisher: str, clock: Clock) -> None:
        self.publisher = publisher
        self.epoch = int(clock.wall() * 1e3)
        self._clock = clock
        self._sequences: dict[str, int] = {}

    def next(self, subject: str) -> Envelope:
        sequence = self._sequences[subject] = self._sequences.get(subject, 0) + 1
        return self._envelope(sequence)

    def last(self, subject: str) -> Envelope:
        """The envelope of the last message again: for an answer that repeats what was said."""
        return self._envelope(self._sequences.get(subject, 0))

    def forget(self, subject: str) -> None:
        """Drop the count of a subject that will not be used again (of an endpoint that is gone)."""
        self._sequences.pop(subject, None)

    def _envelope(self, sequence: int) -> Envelope:
        return Envelope(
            publisher=self.publisher,
            epoch=self.epoch,
            sequence=sequence,
            sent_at=self._clock.wall(),
        )


class Arrival(Enum):
    """How a message stands to those read before."""

    NEXT = "next"
    GAP = "gap"
    """Messages in between were lost."""
    OLD = "old"
    """Repeated or overtaken: already accounted for."""


class SequenceReader:
    """Follows the sequences of every publisher of one subject.

    Publishers come and go with their replicas; beyond `publishers` the longest silent is forgotten.
    """

    def __init__(self, *, publishers: int = 1024) -> None:
        self._publishers = publishers
        self._last: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def judge(self, envelope: Envelope) -> Arrival:
        """Judge a message and remember it."""
        seen = self._last.get(envelope.publisher)
        here = (envelope.epoch, envelope.sequence)
        if seen is not None and here <= seen:
            return Arrival.OLD
        self._remember(envelope.publisher, here)
        if seen is None or envelope.epoch > seen[0]:
            return Arrival.NEXT if envelope.sequence == 1 else Arrival.GAP
        return Arrival.NEXT if here[1] == seen[1] + 1 else Arrival.GAP

    def epoch(self, publisher: str) -> int | None:
        """The start of the publisher's life last heard of."""
        seen = self._last.get(publisher)
        return None if seen is None else seen[0]

    def restart_at(self, publisher: str, epoch: int, sequence: int) -> None:
        """Go on after a snapshot that holds everything up to `sequence`."""
        if (epoch, sequence) > self._last.get(publisher, (0, -1)):
            self._remember(publisher, (epoch, sequence))

    def _remember(self, publisher: str, here: tuple[int, int]) -> None:
        self._last[publisher] = here
        self._last.move_to_end(publisher)
        if len(self._last) > self._publishers:
            self._last.popitem(last=False)

    def forget(self, publisher: str) -> None:
        self._last.pop(publisher, None)
