"""One gRPC stream of a gateway drives one exchange: messages in, replies out, signals to the rest
of the edge. Hot path: nothing happens here to a chunk of an answer but its echo. What a request
and a chunk cost: tests/load/bench_exchange.py."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

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
)
from pointsman_ext_proc.adapters.immediate_response import immediate_answer
from pointsman_ext_proc.adapters.layer_clients import LayerClients
from pointsman_ext_proc.adapters.lease_book import LeaseBook
from pointsman_ext_proc.core.exchange import Exchange, ExchangeRules
from pointsman_ext_proc.core.exchange_events import (
    Action,
    AnswerEnded,
    CallLayers,
    Cancelled,
    Dispatched,
    EndStream,
    FirstChunk,
    LayersAnswered,
    LeaseOpened,
    LeaseServed,
    PeerClosed,
    Refusal,
    Refused,
    Unrouted,
)
from pointsman_ext_proc.core.layer_sequence import Call, LayerSequence, Pause, Shared
from pointsman_ext_proc.core.open_lease import LeaseEnd
from wire import BidiStream, RpcError, RpcStatus

log = get_logger("ext-proc")


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


class ExchangeStream:
    def __init__(self, stream: BidiStream, parts: EdgeParts) -> None:
        self._stream, self._parts = stream, parts
        self._exchange = Exchange(parts.rules, new_request_id=parts.new_request_id)
        self._arrived_at = parts.clock.monotonic()
        self._arrived_at_wall = parts.clock.wall()
        self._lease_id = ""
        self._sequence: LayerSequence | None = None
        self._answered = False

    async def run(self) -> None:
        """Until the exchange is over. Whatever happens, its lease is told to end, once."""
        try:
            await self._run()
        except (DecodeError, UnreadableMessageError) as error:
            raise RpcError(RpcStatus.INVALID_ARGUMENT, str(error)) from error
        except Exception:
            self._parts.on_failure()
            log.exception("exchange-failed", lease=self._lease_id)
            await self._fail()
        finally:
            # Nothing, when the end was told of already or is left to the access log.
            for action in self._exchange.handle(Cancelled()):
                self._note(action)

    async def _run(self) -> None:
        is_first = True
        while (raw := await self._stream.receive()) is not None:
            actions = self._exchange.handle(decode(raw, with_modes=is_first))
            is_first = False
            if not await self._carry_out(actions):
                return
        await self._carry_out(self._exchange.handle(PeerClosed()))

    async def _carry_out(self, actions: list[Action]) -> bool:
        """Returns whether the stream goes on."""
        for action in actions:
            encode = ENCODERS.get(type(action))
            if encode is not None:
                self._answered = True
                await self._stream.send(encode(action))
            elif isinstance(action, CallLayers):
                decision = await self._ask_layers(action)
                return await self._carry_out(self._exchange.handle(LayersAnswered(decision)))
            elif isinstance(action, Refusal):
                await self._refuse(action)
            elif isinstance(action, EndStream):
                return False
            else:
                self._note(action)
        return True

    async def _ask_layers(self, request: CallLayers) -> Dispatched | Refused:
        parts, clock = self._parts, self._parts.clock
        self._lease_id = parts.leases.new_id()
        sequence = self._sequence = LayerSequence(
            parts.shared, request, lease_id=self._lease_id, arrived_at=self._arrived_at_wall
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
            case Unrouted(refused=refused):
                self._unrouted(refused)
            case _:
                pass

    def _unrouted(self, refused: Refused | None) -> None:
        if refused is not None:
            self._parts.on_refused(refused)
        if self._sequence is None or not self._sequence.counted:
            return
        self._parts.leases.abandon(
            self._lease_id,
            None if refused is None else refused.descriptor,
            http_status=0 if refused is None else refused.rejection.http_status,
            cause="client-gone" if refused is None else "finished",
        )

    async def _refuse(self, refusal: Refusal) -> None:
        answer = immediate_answer(refusal.rejection, error_format=self._parts.error_format)
        await self._stream.send(encode_refusal(answer))

    async def _fail(self) -> None:
        """An error of ours: a clear 500 as long as nothing was answered, else a broken stream."""
        if self._answered:
            raise RpcError(RpcStatus.INTERNAL, "the exchange failed")
        await self._refuse(Refusal(rejection("Internal", "the endpoint picker failed")))
