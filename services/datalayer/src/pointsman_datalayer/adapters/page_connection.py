"""One kept-alive HTTP/1.1 connection that gets pages: one question at a time, no redirects.

httptools (llhttp) parses; this carries the bytes. What a connection may take is bounded by
`max_bytes` and a head of `MAX_HEAD_BYTES`; its user bounds the time. On the scrape path; measured
by tests/load/bench_scrape.py.
"""

import asyncio
from typing import cast

import httptools

from pointsman_datalayer.core.fetching import NonsenseError, UnreachableError

MAX_HEAD_BYTES = 64 << 10
READ_BYTES = 256 << 10


class LostBeforeAnswerError(Exception):
    """A kept connection was closed before anything came: nothing is known of the endpoint."""


class PageConnection(asyncio.BufferedProtocol):
    """`scratch` is where the loop reads to; connections of one loop share it, for what has been
    read is taken out at once."""

    def __init__(self, scratch: memoryview, max_bytes: int) -> None:
        self._scratch, self._max_bytes = scratch, max_bytes
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._received = 0
        self._sized = self._bodied = False
        self.used = False
        """Whether it has answered before."""

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def get(self, request: bytes) -> bytes:
        """Send a request, and wait for the body of an answer with status 200.

        Raises:
            LostBeforeAnswerError: closed meanwhile, on a connection that had answered before.
            UnreachableError: closed before the answer was whole.
            NonsenseError: another status, an answer too long, or no HTTP.
        """
        if self._transport is None or self._answer is not None:
            raise RuntimeError("not connected, or the last question is still open")
        self._answer = asyncio.get_running_loop().create_future()
        self._body, self._received = [], 0
        self._sized = self._bodied = False
        self._transport.write(request)
        try:
            body = await self._answer
        except BaseException:  # cancelled too: what still comes would be taken for the next answer
            self.close()
            raise
        finally:
            self._answer = None
        self.used = True
        return body

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of a stream of bytes

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # nobody has asked
            return
        self._received += nbytes
        try:
            self._parser.feed_data(self._scratch[:nbytes])
        except httptools.HttpParserError as error:
            self._fail(NonsenseError(f"no HTTP answer: {type(error).__name__}"))
            return
        if self._received > self._max_bytes + MAX_HEAD_BYTES and not self._answer.done():
            self._fail(NonsenseError(f"more than {self._max_bytes} bytes"))

    def eof_received(self) -> None:
        if self._answer is not None and not self._answer.done() and self._ends_with_connection():
            self._answer.set_result(b"".join(self._body))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._answer is None or self._answer.done():
            return
        if self.used and not self._received:
            self._answer.set_exception(LostBeforeAnswerError())
        else:
            self._answer.set_exception(UnreachableError("connection lost"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # a second answer to one question

    def on_header(self, name: bytes, value: bytes) -> None:
        del value
        if name.lower() in {b"content-length", b"transfer-encoding"}:
            self._sized = True

    def on_headers_complete(self) -> None:
        self._bodied = self._parser.get_status_code() == 200

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._answer is None or self._answer.done():
            self._sized = False  # such as 103 Early Hints: the answer is still to come
            return
        if status != 200:
            self._fail(NonsenseError(f"HTTP {status}"))
            return
        body = b"".join(self._body)
        if len(body) > self._max_bytes:
            self._fail(NonsenseError(f"more than {self._max_bytes} bytes"))
            return
        if not self._parser.should_keep_alive():
            self.close()
        self._answer.set_result(body)

    def _ends_with_connection(self) -> bool:
        """An answer without a length, as HTTP/1.0 has it."""
        return self._bodied and not self._sized

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
