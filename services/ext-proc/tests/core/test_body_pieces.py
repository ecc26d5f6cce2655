import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_common.contracts.routing_pb2 import BodyPatch, Splice, SpliceList
from pointsman_ext_proc.core.body_pieces import patched, pieces
from pointsman_ext_proc.core.exchange_events import MAX_PIECE_BYTES


@given(length=st.integers(0, 4 * MAX_PIECE_BYTES), ends=st.booleans())
def test_pieces_make_up_the_body_and_only_the_last_may_end_it(length: int, ends: bool) -> None:
    body = bytes(length)
    cut = list(pieces(body, end_of_stream=ends))
    assert b"".join(piece for piece, _ in cut) == body
    assert all(0 < len(piece) <= MAX_PIECE_BYTES for piece, _ in cut) or length == 0
    assert [end for _, end in cut] == [False] * (len(cut) - 1) + [ends]
    assert len(cut) == max(1, -(-length // MAX_PIECE_BYTES))


def splices(*items: tuple[int, int, bytes]) -> BodyPatch:
    made = [Splice(offset=at, removed=gone, inserted=new) for at, gone, new in items]
    return BodyPatch(splices=SpliceList(splices=made))


def test_splices_change_only_what_they_name() -> None:
    patch = splices((0, 1, b"["), (3, 0, b"-"), (5, 1, b""), (6, 0, b"end"))
    assert patched(b"abcdef", patch) == b"[bc-deend"


def test_a_replacement_takes_the_place_of_the_whole_body() -> None:
    assert patched(b"abc", BodyPatch(replacement=b"x")) == b"x"
    assert patched(b"abc", BodyPatch()) == b"abc"


@pytest.mark.parametrize("items", [[(2, 2, b"")], [(2, 1, b""), (1, 1, b"")], [(9, 0, b"x")]])
def test_splices_that_do_not_fit_are_an_error(items: list[tuple[int, int, bytes]]) -> None:
    with pytest.raises(ValueError, match="splice at"):
        patched(b"abc", splices(*items))
