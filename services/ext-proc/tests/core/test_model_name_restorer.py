from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pointsman_ext_proc.core.model_name_restorer import ModelNameRestorer

PARTS = ['"model":"t"', '"model": "t"', '"model":"tt"', '"model":', '"', "text", '"t"', '"mod']


@given(
    parts=st.lists(st.sampled_from(PARTS), max_size=12),
    cuts=st.lists(st.integers(0, 150), max_size=20),
)
def test_names_are_restored_however_the_answer_is_cut(parts: list[str], cuts: list[int]) -> None:
    body = "".join(parts).encode()
    expected = body.replace(b'"model":"t"', b'"model":"asked"')
    expected = expected.replace(b'"model": "t"', b'"model": "asked"')
    restorer = ModelNameRestorer(served="t", asked="asked")
    inside = sorted(min(cut, len(body)) for cut in cuts)
    passed = b"".join(
        restorer.feed(body[start:end]) for start, end in pairwise([0, *inside, len(body)])
    )
    assert passed + restorer.finish() == expected


def test_only_the_beginning_of_a_name_is_held_back() -> None:
    restorer = ModelNameRestorer(served="t", asked="asked")
    assert restorer.feed(b'{"id":1,"mod') == b'{"id":1,'
    assert restorer.feed(b'e":2}\n') == b'"mode":2}\n'
    assert restorer.feed(b"data: {}\n\n") == b"data: {}\n\n"
    assert restorer.finish() == b""


def test_names_are_compared_in_their_json_form() -> None:
    restorer = ModelNameRestorer(served='a"b', asked="c\\d")
    assert restorer.feed(b'{"model":"a\\"b"}') == b'{"model":"c\\\\d"}'
