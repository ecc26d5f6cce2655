"""The randomness of one decision, all of which follows from the decision's seed."""

from random import Random

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_GAMMA = 0x9E37_79B9_7F4A_7C15


class DecisionRandom(Random):
    """A Random that begins anew with each decision, at no cost.

    `Random` itself takes longer to seed than a decision takes to make. This one is SplitMix64,
    whose state is its seed.
    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    """

    _state = 0

    def start(self, seed: int) -> None:
        """Forget the last decision and begin one of this seed of 64 bits."""
        self._state = seed
        self.gauss_next = None

    def random(self) -> float:
        return (self._next() >> 11) * 2.0**-53

    def getrandbits(self, k: int, /) -> int:
        bits = 0
        for _ in range((k + 63) // 64):
            bits = bits << 64 | self._next()
        return bits >> (-k % 64)

    def _next(self) -> int:
        self._state = mixed = (self._state + _GAMMA) & _MASK
        mixed = (mixed ^ mixed >> 30) * 0xBF58_476D_1CE4_E5B9 & _MASK
        mixed = (mixed ^ mixed >> 27) * 0x94D0_49BB_1331_11EB & _MASK
        return mixed ^ mixed >> 31
