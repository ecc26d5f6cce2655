"""What does a model without a model say? The same words for the same prompt, and as many.

A token is one lower-case ASCII word with a space before it, which JSON carries unescaped.
"""

import xxhash

SHORTEST_ANSWER = 16
LONGEST_ANSWER = 128

_VOCABULARY = (
    "a able about all along and any are around at back be before below between block both bridge "
    "build by call car carry change clear coal come cross day departs down each east end engine "
    "even every far few field first five follow for four freight from full gate give go goes gone "
    "grade green guard half hand has head here high hill hold home hour how if in into iron is it "
    "its junction keep key know lamp last late lead leave left lever light like line list little "
    "load local long loop made mail main make many may meet mile more most move must near new next "
    "night no north not note now of off often on one only open or other out over own pass past "
    "path place plain plan platform point points post pull quick quiet rail rain read ready red "
    "rest return right river road round route run safe same seat second see seen send set seven "
    "short shunt side siding sign signal six slow so some soon south spare speed stand start "
    "station stay steam steel still stone stop such summit switch take ten than that the then "
    "there third this those three through time to track train tunnel turn two under until up "
    "valley very wait was way we well were west what wheel when where which while whistle white "
    "will wind with work yard year yellow"
)
# As many as a byte can tell apart, so that a mask picks one.
WORDS = tuple(f" {word}".encode() for word in (_VOCABULARY.split() * 2)[:256])


class GeneratedText:
    """The answer to one prompt under one seed."""

    def __init__(self, prompt: bytes, seed: int) -> None:
        digest = xxhash.xxh3_64_intdigest(prompt, seed)
        self.natural_length = SHORTEST_ANSWER + digest % (LONGEST_ANSWER - SHORTEST_ANSWER + 1)
        """Tokens after which the model would end by itself, 16 to 128."""
        self._offset = digest >> 32
        self._stride = (digest >> 16 & 0xFF) | 1

    def token(self, index: int) -> bytes:
        """Return the `index`-th token of the answer."""
        return WORDS[(self._offset + index * self._stride + index * index // 7) & 0xFF]

    def text(self, count: int) -> str:
        """Return the first `count` tokens."""
        return b"".join([self.token(index) for index in range(count)]).decode()
