"""Messages in DATA, however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import RpcError, RpcStatus
from wire.grpc.framing import MessageReader, frame_message, frame_messages


@given(st.lists(st.binary(max_size=60), max_size=10), st.lists(st.integers(1, 30), min_size=1))
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    messages: list[bytes], cuts: list[int]
) -> None:
    data, reader = frame_messages(messages), MessageReader(60)
    received: list[bytes] = []
    while data:
        cut = cuts[len(received) % len(cuts)]
        received += reader.feed(data[:cut])
        data = data[cut:]
    assert received == messages
    assert reader.pending_bytes == 0


def test_what_is_kept_of_an_unfinished_message_is_told() -> None:
    reader, whole = MessageReader(100), frame_message(b"0123456789")
    assert reader.feed(whole + whole[:7]) == [b"0123456789"]
    assert reader.pending_bytes == 7
    assert reader.feed(whole[7:12]) == ()
    assert reader.pending_bytes == 12
    assert reader.feed(whole[12:]) == [b"0123456789"]
    assert reader.pending_bytes == 0


@pytest.mark.parametrize(
    ("prefix", "status"),
    [
        (b"\0\0\0\0\x65", RpcStatus.RESOURCE_EXHAUSTED),
        (b"\1\0\0\0\x01", RpcStatus.UNIMPLEMENTED),
        (b"\2\0\0\0\x01", RpcStatus.INTERNAL),
    ],
)
def test_a_message_that_will_not_be_read_is_refused_by_its_prefix(
    prefix: bytes, status: RpcStatus
) -> None:
    with pytest.raises(RpcError) as caught:
        MessageReader(100).feed(prefix)
    assert caught.value.status is status
