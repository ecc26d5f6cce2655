"""The header blocks that calls to one authority begin with. On the hot path:
`benchmarks/bench_hop.py`."""

from wire.grpc.heads import encode_request_head
from wire.grpc.metadata import encode_metadata
from wire.grpc.timeouts import encode_timeout, round_timeout
from wire.http2.header_encoding import encode_fields
from wire.status import Metadata

_HEADS_KEPT = 1024


class RequestHeads:
    """All but the metadata is encoded once for each path and (rounded) timeout."""

    def __init__(self, *, authority: str, scheme: str) -> None:
        self._authority, self._scheme = authority, scheme
        self._heads: dict[tuple[str, tuple[int, bytes] | None], bytes] = {}

    def encode(self, path: str, timeout_s: float | None, metadata: Metadata | None) -> bytes:
        timeout = None if timeout_s is None else round_timeout(max(timeout_s, 0.0))
        head = self._heads.get((path, timeout))
        if head is None:
            head = encode_request_head(path=path, authority=self._authority, scheme=self._scheme)
            if timeout is not None:
                head += encode_fields([(b"grpc-timeout", encode_timeout(*timeout))])
            if len(self._heads) >= _HEADS_KEPT:
                self._heads.clear()
            self._heads[path, timeout] = head
        return head + encode_metadata(metadata) if metadata else head
