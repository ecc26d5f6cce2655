from pointsman_ext_proc.core.request_body import RequestBodyBuffer


def test_chunks_come_out_as_one_body() -> None:
    buffer = RequestBodyBuffer(max_bytes=6)
    assert all(buffer.add(chunk) for chunk in (b"ab", b"", b"cdef"))
    assert len(buffer) == 6
    assert buffer.take() == b"abcdef"


def test_past_the_limit_nothing_is_kept() -> None:
    buffer = RequestBodyBuffer(max_bytes=3)
    assert buffer.add(b"abc")
    assert not buffer.add(b"d")
    assert not buffer.add(b"e" * 1_000)
    assert buffer.take() == b""
