"""The other replicas of the flow controller, as this one takes them into account."""

from collections.abc import Iterable

from pointsman_flow_controller.core.capacity_share import CapacityShare
from pointsman_flow_controller.core.share_board import FlowDemand, Service, ShareBoard, Weigh
from pointsman_flow_controller.core.share_tally import ShareTally

SERVING_S = 1.0
"""A replica that has let nothing go for so long is not taken to do so unheard."""

FORGOTTEN_S = 60.0


class PeerExchange:
    def __init__(self, replica: str, weigh: Weigh) -> None:
        self.board = ShareBoard(replica, weigh)
        self.share = CapacityShare(self.board)
        self.tally = ShareTally()
        self.cut_off = False
        """The bus is away: the others are taken to go on as they were last heard."""

    def take_own(self, epoch: int, now: float, *, whole: bool) -> list[FlowDemand]:
        """What this replica has to tell. From then on it counts as told, here as elsewhere."""
        flows = self.tally.take(now, whole=whole)
        self.board.tell(self.board.me, epoch, flows, whole=whole, now=now)
        return flows

    def hear(
        self, replica: str, epoch: int, flows: Iterable[FlowDemand], *, whole: bool, now: float
    ) -> list[Service]:
        """Another replica has told; returns what it has let go since its last word."""
        return self.board.tell(replica, epoch, flows, whole=whole, now=now)

    def contested(self, now: float) -> bool:
        """Whether something waits at another replica too."""
        if not self.cut_off:
            self.board.expire(now)
        if self.board.others_queued:
            return True
        self.share.settle()
        return False

    def is_ahead(self, priority: int) -> bool:
        """Whether something of this priority or of a higher one waits at another replica."""
        if not self.board.others_queued:
            return False
        above, same = self.board.contested(priority)
        return above + same > 0

    def next_look(self) -> float | None:
        """When the shares may be others, should nothing be heard; `None`: nobody else waits."""
        looks = (self.share.next_look(), None if self.cut_off else self.board.next_expiry())
        return min((look for look in looks if look is not None), default=None)

    def serving(self, now: float) -> int:
        """Other replicas that let requests go just now."""
        return self.board.serving_peers(now - SERVING_S)

    def forget_silent(self, now: float) -> None:
        self.board.forget_silent(now - FORGOTTEN_S)

    def reweigh(self) -> None:
        """The fairness policies have changed."""
        self.board.reweigh()
