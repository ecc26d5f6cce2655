"""One gRPC stream of a gateway drives one exchange: messages in, replies out, signals to the rest
of the edge. Hot path: nothing happens here to a chunk of an answer but its echo. What a request
and a chunk cost: tests/load/bench_exchange.py, and through a real connection bench_edge.py.

    state    | message      | layers' answer  | the gateway is slow | half-close | reset
    ---------+--------------+-----------------+---------------------+------------+---------------
    FREE     | handled      | –               | SLOW                | over       | over
    ASKING   | kept         | FREE, then kept | –                   | kept       | over, cancelled
    SLOW     | kept         | –               | FREE when it took   | kept       | over
    over     | –            | –               | –                   | –          | –

Only ASKING has a task. What is kept is handled in its order as soon as the state is FREE again.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from pointsman_common.clock import Clock
from pointsman_common.error_mapping import rejection
from pointsman_common.errors import LayerFailedError, LayerUnavailableError
from pointsman_common.structured_log import get_logger
from pointsman_ext_proc.adapters.envoy_messages import (
    ENCODERS,
    UnreadableMessageError,
    decode,
    encode_refusal,
    encode_response_piece,
)
from pointsman_ext_proc.adapters.immediate_response import immediate_answer
from pointsman_ext_proc.adapters.layer_clients import LayerClients
from pointsman_ext_proc.adapters.lease_book import LeaseBook
from pointsman_ext_proc.core.eviction import EVICTION
from pointsman_ext_proc.core.exchange import Exchange, ExchangeRules
from pointsman_ext_proc.core.exchange_events import (
    Action,
    AnswerEnded,
    CallLayers,
    Cancelled,
    Dispatched,
    EndStream,
    Event,
    Evicted,
    FirstChunk,
    LayersAnswered,
    LeaseOpened,
    LeaseServed,
    PeerClosed,
    Refusal,
    Refused,
    ResponseBody,
    Unrouted,
)
from pointsman_ext_proc.core.layer_sequence import Call, LayerSequence, Pause, Shared
from pointsman_ext_proc.core.open_lease import LeaseEnd
from wire import CallbackStream, RpcStatus

log = get_logger("ext-proc")

MOST_UNSENT_BYTES = 1 << 20
"""Replies that a gateway has not taken, beyond which its next message waits."""

MOST_KEPT_BYTES = 16 << 20
"""Messages that wait; a gateway that sends yet another has its stream ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeParts:
    """What every stream of the edge uses."""

    clock: Clock
    layers: LayerClients
    shared: Shared
    leases: LeaseBook
    rules: ExchangeRules
    error_format: str
    on_refused: Callable[[Refused], None] = lambda _: None
    on_failure: Callable[[], None] = lambda: None
    new_request_id: Callable[[], str] = lambda: str(uuid.uuid4())
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Of the streams that wait for the layers."""
    streams: dict[str, "ExchangeStream"] = field(default_factory=dict)
    """Open streams by their lease: those that an eviction can reach."""


class ExchangeStream(CallbackStream):
    """Whatever happens, its lease is told to end, once; `on_over` is called once after that."""

    __slots__ = (
        "_answered",
        "_arrived_at",
        "_arrived_at_wall",
        "_exchange",
        "_has_ended",
        "_is_first",
        "_is_over",
        "_is_slow",
        "_kept",
        "_kept_bytes",
        "_lease_id",
        "_on_over",
        "_parts",
        "_sequence",
        "_task",
    )

    def __init__(self, parts: EdgeParts, on_over: Callable[[], None]) -> None:
        self._parts, self._on_over = parts, on_over
        self._exchange = Exchange(parts.rules, new_request_id=parts.new_request_id)
        self._arrived_at = parts.clock.monotonic()
        self._arrived_at_wall = parts.clock.wall()
        self._lease_id = ""
        self._sequence: LayerSequence | None = None
        self._task: asyncio.Task[None] | None = None
        self._kept: deque[bytes] | None = None
        self._kept_bytes = 0
        self._is_first, self._answered = True, False
        self._is_slow = self._has_ended = self._is_over = False

    # -- called by the transport

    def on_message(self, message: bytes) -> None:
        if self._task is None and not self._is_slow:
            self._take(message)
        elif not self._is_over:
            self._keep(message)

    def on_end(self) -> None:
        self._has_ended = True
        self._catch_up()

    def on_sent(self) -> None:
        if self._is_slow:
            self._is_slow = False
            self._catch_up()

    def on_reset(self) -> None:
        self._stop_asking()
        self._leave()

    # -- called by the edge

    @property
    def answered(self) -> bool:
        """Whether an answer has begun to reach the client."""
        return self._exchange.answered

    def evict(self) -> None:
        """End the request: a refusal, by which the gateway cuts off an answer that has begun."""
        self._stop_asking()
        self._handle(Evicted())

    # -- messages

    def _take(self, message: bytes) -> None:
        try:
            event = decode(message, with_modes=self._is_first)
        except (DecodeError, UnreadableMessageError) as error:
            self._finish(RpcStatus.INVALID_ARGUMENT, str(error))
            return
        self._is_first = False
        if type(event) is ResponseBody and self._exchange.echoes(event):
            self.send(encode_response_piece(event.body))
            self._is_slow = self.unsent_bytes > MOST_UNSENT_BYTES
        else:
            self._handle(event)

    def _keep(self, message: bytes) -> None:
        if self._kept is None:
            self._kept = deque()
        if self._kept_bytes > MOST_KEPT_BYTES:
            self._finish(RpcStatus.RESOURCE_EXHAUSTED, "too much was sent ahead of the replies")
            return
        self._kept.append(message)
        self._kept_bytes += len(message)

    def _catch_up(self) -> None:
        kept = self._kept
        while self._task is None and not self._is_slow and not self._is_over:
            if kept:
                message = kept.popleft()
                self._kept_bytes -= len(message)
                self._take(message)
            elif self._has_ended:
                self._handle(PeerClosed())
                self._finish()
            else:
                return

    def _handle(self, event: Event) -> None:
        try:
            self._carry_out(self._exchange.handle(event))
        except Exception:
            self._break()

    def _carry_out(self, actions: list[Action]) -> None:
        replies: list[bytes] = []
        ends = False
        for action in actions:
            encode = ENCODERS.get(type(action))
            if encode is not None:
                replies.append(encode(action))
            elif isinstance(action, CallLayers):
                self._ask(action)
            elif isinstance(action, Refusal):
                replies.append(self._refusal(action))
            elif isinstance(action, EndStream):
                ends = True
            else:
                self._note(action)
        if replies:
            self._answered = True
            self.send_many(replies)
            self._is_slow = self.unsent_bytes > MOST_UNSENT_BYTES
        if ends:
            self._finish()

    # -- layers

    def _ask(self, request: CallLayers) -> None:
        task = self._task = asyncio.get_running_loop().create_task(self._decide(request))
        self._parts.tasks.add(task)

    def _stop_asking(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            # Cancelled before its first step, it has no last one to leave the set.
            task.add_done_callback(self._parts.tasks.discard)
            task.cancel()

    async def _decide(self, request: CallLayers) -> None:
        try:
            decision = await self._ask_layers(request)
            if not self._is_over:
                self._carry_out(self._exchange.handle(LayersAnswered(decision)))
        except Exception:
            self._break()
        finally:
            if self._task is not None:
                self._parts.tasks.discard(self._task)
                self._task = None
        self._catch_up()

    async def _ask_layers(self, request: CallLayers) -> Dispatched | Refused:
        parts, clock = self._parts, self._parts.clock
        self._lease_id = parts.leases.new_id()
        parts.streams[self._lease_id] = self
        sequence = self._sequence = LayerSequence(
            parts.shared,
            request,
            lease_id=self._lease_id,
            arrived_at=self._arrived_at,
            arrived_at_wall=self._arrived_at_wall,
        )
        step = sequence.begin(clock.monotonic())
        while True:
            if isinstance(step, Call):
                try:
                    reply = await parts.layers.call(step)
                except (LayerUnavailableError, LayerFailedError) as error:
                    step = sequence.failed(error, clock.monotonic())
                else:
                    step = sequence.answered(reply, clock.monotonic())
            elif isinstance(step, Pause):
                await clock.sleep(step.seconds)
                step = sequence.resumed(clock.monotonic())
            else:
                return step

    # -- signals

    def _note(self, action: Action) -> None:
        """Tell the rest of the edge; a reply is left out, for there is nobody to read it."""
        leases = self._parts.leases
        match action:
            case LeaseOpened(dispatched=dispatched, request_bytes=request_bytes):
                leases.open(dispatched, arrived_at=self._arrived_at, request_bytes=request_bytes)
            case FirstChunk(streaming=streaming):
                leases.first_chunk(self._lease_id, streaming=streaming)
            case LeaseServed(address=address):
                leases.served(self._lease_id, address)
            case AnswerEnded():
                leases.end(
                    self._lease_id,
                    LeaseEnd(action.http_status, action.cause, action.response_bytes, action.usage),
                )
            case Unrouted(refused=refused, evicted=evicted):
                self._unrouted(refused, evicted=evicted)
            case _:
                pass

    def _unrouted(self, refused: Refused | None, *, evicted: bool) -> None:
        if refused is not None:
            self._parts.on_refused(refused)
        if self._sequence is None or not self._sequence.counted:
            return
        status, cause, descriptor = 0, "client-gone", None
        if refused is not None:
            status, cause = refused.rejection.http_status, "finished"
            descriptor = refused.descriptor
        elif evicted:
            status, cause = EVICTION.http_status, "evicted"
        self._parts.leases.abandon(self._lease_id, descriptor, http_status=status, cause=cause)

    def _refusal(self, refusal: Refusal) -> bytes:
        answer = immediate_answer(
            refusal.rejection, refusal.headers, error_format=self._parts.error_format
        )
        return encode_refusal(answer)

    # -- ends

    def _break(self) -> None:
        """An error of ours: a clear 500 as long as nothing was answered, else a broken stream."""
        self._parts.on_failure()
        log.exception("exchange-failed", lease=self._lease_id)
        if self._answered:
            self._finish(RpcStatus.INTERNAL, "the exchange failed")
        else:
            self.send(self._refusal(Refusal(rejection("Internal", "the endpoint picker failed"))))
            self._finish()

    def _finish(self, status: RpcStatus = RpcStatus.OK, message: str = "") -> None:
        self.finish(status, message)
        self._leave()

    def _leave(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._kept = None
        self._parts.streams.pop(self._lease_id, None)
        try:
            # Nothing, when the end was told of already or is left to the access log.
            for action in self._exchange.handle(Cancelled()):
                self._note(action)
        finally:
            self._on_over()
