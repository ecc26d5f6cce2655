"""Random frames: whatever comes, a connection stays in order or ends, and never raises."""

from hypothesis import given, settings
from hypothesis import strategies as st

from wire.http2.errors import ErrorCode
from wire.http2.frames import GOAWAY, frame
from wire.http2.limits import Limits
from wire.testing.scripted_client import REQUEST_BLOCK, ScriptedClient

LIMITS = Limits(max_concurrent_streams=4, stream_window_bytes=1000, control_frames_burst=30)

payloads = st.one_of(
    st.just(REQUEST_BLOCK),
    st.binary(max_size=20),
    st.sampled_from([bytes(4), bytes(5), bytes(6), bytes(8), b"\0\0\0\x01", b"\x7f\xff\xff\xff"]),
)
stream_ids = st.one_of(st.integers(0, 12), st.integers(0, 0xFFFF_FFFF))
frames = st.builds(frame, st.integers(0, 11), st.integers(0, 0xFF), stream_ids, payloads)
likely_frames = st.builds(
    frame,
    st.sampled_from([0, 1, 1, 3, 8, 9]),
    st.sampled_from([0, 1, 4, 5]),
    st.integers(1, 7),
    payloads,
)
answers = st.sampled_from(["head", "data", "end", "reset", "nothing"])


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.one_of(frames, likely_frames), answers), max_size=40), st.integers(1, 99)
)
def test_any_frames_leave_a_connection_in_order_or_ended(
    steps: list[tuple[bytes, str]], cut: int
) -> None:
    client = ScriptedClient(LIMITS)
    server = client.server
    for sent, answer in steps:
        client.send(sent[:cut])
        client.send(sent[cut:])
        for stream in [*server.streams.values()][:1]:
            if stream.local_done or stream.ending is not None:
                continue
            if answer == "head":
                server.send_headers(stream, b"\x88")
            elif answer == "data":
                server.send_data(stream, bytes(50))
            elif answer == "end":
                server.send_response(stream, b"\x88", bytes(2000), b"\x00\x01a\x01b")
            elif answer == "reset":
                server.reset(stream, ErrorCode.CANCEL)
    assert len(server.streams) <= LIMITS.max_concurrent_streams
    for stream in server.streams.values():
        assert not stream.closed
    if server.closing:
        client.read()
        assert client.said(GOAWAY)
        assert not server.streams
    for owner in client.accepted:
        ends = [event for event in owner.events if event == "end" or event[0] == "reset"]  # type: ignore[index]
        assert len(ends) <= 2
        assert owner.events[0] == "open"


@given(st.binary(max_size=400))
def test_any_bytes_are_taken_without_an_exception(data: bytes) -> None:
    ScriptedClient(LIMITS).send(data)
