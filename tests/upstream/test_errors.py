"""Cases 31–49: requests that are refused."""

from support.case_configs import DEF, QK, QK_DECODE
from support.case_pools import CasePool, Engine, case, objective, state_key
from support.case_stack import Stack
from support.ext_proc_client import Gateway, Reply, request_body, request_headers
from support.polling import await_until
from support.request_bodies import E1, asks, completion

ONE = (Engine(0, 0.1),)
FULL = (Engine(50, 0.1), Engine(50, 0.1))
SHED = (objective("obj-shed", -1),)
REASON = "x-llm-d-request-dropped-reason"


async def refused(
    gateway: Gateway, body: bytes | str, *, path: str = "/v1/completions", **headers: str
) -> Reply:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    reply = await gateway.ask(request_headers(named, path=path), request_body(body, end=True))
    assert reply.immediate is not None, f"routed to {reply.destination}"
    return reply


@case(31, config=QK, engines=ONE)
async def test_invalid_json_is_400(gateway: Gateway) -> None:
    reply = await refused(gateway, "no healthy upstream")
    assert reply.status == 400
    assert reply.text.startswith("inference error: BadRequest - error unmarshaling request bodyMap")
    assert reply.immediate_header(REASON) is None


@case(32, config=QK, engines=ONE)
async def test_a_missing_model_is_400(gateway: Gateway) -> None:
    reply = await refused(gateway, '{"prompt":"x"}')
    assert (reply.status, reply.text) == (
        400,
        "inference error: BadRequest - model not found in request body",
    )


@case(34, config=QK, engines=ONE)
async def test_a_chat_without_messages_is_400(gateway: Gateway) -> None:
    reply = await refused(gateway, '{"model":"m"}', path="/v1/chat/completions")
    assert (reply.status, reply.text) == (
        400,
        "inference error: BadRequest - invalid chat completions request: "
        "must have valid messages field",
    )


@case(35, config=QK, engines=ONE)
async def test_a_completion_without_a_prompt_is_400(gateway: Gateway) -> None:
    reply = await refused(gateway, '{"model":"m"}')
    assert (reply.status, reply.text) == (
        400,
        "inference error: BadRequest - invalid completions request: must have prompt field",
    )


@case(37, config=QK, engines=ONE)
async def test_an_unknown_path_without_a_fallback_parser_is_400(gateway: Gateway) -> None:
    reply = await refused(gateway, "abc", path="/foo")
    assert (reply.status, reply.text) == (
        400,
        "inference error: BadRequest - no parser registered matching path suffix for: /foo",
    )


@case(38, config=DEF, engines=ONE)
async def test_an_unknown_path_passes_through_by_default(gateway: Gateway) -> None:
    reply = await gateway.ask(request_headers(path="/foo"), request_body(b"abc", end=True))
    assert (reply.destination, reply.body) == (E1, b"abc")


@case(40, config=QK_DECODE, engines=(Engine(labels={"llm-d.ai/role": "prefill"}),))
async def test_filters_that_leave_nothing_give_429(gateway: Gateway) -> None:
    reply = await refused(gateway, completion())
    assert reply.status == 429
    assert "no endpoints available for the given request" in reply.text
    assert reply.immediate_header(REASON) == "rejected-saturated"


@case(
    41,
    config=QK,
    engines=FULL,
    objects=SHED,
    differs="a shed request carries its reason and Retry-After",
)
async def test_a_sheddable_request_is_shed_by_a_full_pool(gateway: Gateway) -> None:
    reply = await refused(gateway, completion(), x_llm_d_inference_objective="obj-shed")
    assert (reply.status, reply.text) == (
        429,
        "inference error: ResourceExhausted - system saturated, sheddable request dropped",
    )
    assert reply.immediate_header(REASON) == "rejected-saturated"
    assert int(reply.immediate_header("retry-after") or 0) >= 1


@case(43, config=QK, engines=ONE, objects=SHED)
async def test_a_sheddable_request_goes_where_there_is_room(gateway: Gateway) -> None:
    reply = await gateway.ask(*asks(x_llm_d_inference_objective="obj-shed"))
    assert reply.destination == E1


@case(44, config=QK, engines=ONE, objects=SHED)
async def test_stale_metrics_count_as_full_for_sheddable_requests_only(
    gateway: Gateway, stack: Stack, pool: CasePool
) -> None:
    stack.target.states[state_key(pool.name, 1, 8000)].hang = True

    async def shed() -> bool:
        reply = await gateway.ask(*asks(x_llm_d_inference_objective="obj-shed"))
        return reply.status == 429

    await await_until("shedding on stale metrics", shed)
    assert (await gateway.ask(*asks())).destination == E1


@case(46, config=DEF, engines=(Engine(), Engine()))
async def test_a_conditional_decode_of_a_cold_prompt_is_412(gateway: Gateway) -> None:
    reply = await refused(gateway, completion(prompt="cold " * 100), prefer="if-available")
    assert (reply.status, reply.text) == (
        412,
        "inference error: PreconditionFailed - no decode worker has the requested KV cache",
    )


@case(47, config=DEF, engines=ONE)
async def test_a_conditional_decode_of_a_warm_prompt_is_routed(gateway: Gateway) -> None:
    body = completion(prompt="warm " * 100)
    assert (await gateway.ask(*asks(body))).destination == E1
    assert (await gateway.ask(*asks(body, prefer="if-available"))).destination == E1


@case(49, config=QK, engines=ONE)
async def test_the_stream_is_over_after_a_refusal(gateway: Gateway) -> None:
    stream = gateway.open()
    await stream.send(request_headers(), request_body("no healthy upstream", end=True))
    assert (await stream.reply()).status == 400
    assert await stream.receive() is None
