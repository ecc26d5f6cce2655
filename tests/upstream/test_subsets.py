"""Cases 50–59: the gateway allows only some endpoints."""

from support.case_configs import QK
from support.case_pools import Engine, case
from support.ext_proc_client import Gateway, Reply, request_body, request_headers
from support.request_bodies import E1, E2, E3, completion

THREE = (Engine(0, 0.2), Engine(0, 0.1), Engine(10, 0.2))


async def ask_within(gateway: Gateway, subset: object) -> Reply:
    return await gateway.ask(request_headers(), request_body(completion(), end=True, subset=subset))


def is_no_endpoint(reply: Reply) -> bool:
    return (
        reply.status == 503
        and reply.text
        == "inference error: ServiceUnavailable - "
        "failed to find endpoint candidates for serving the request"
        and reply.immediate_header("x-llm-d-request-dropped-reason") == "rejected-no-endpoints"
    )


@case(50, config=QK, engines=THREE)
async def test_the_best_of_the_subset_is_picked(gateway: Gateway) -> None:
    assert (await ask_within(gateway, [E1, E2, E3])).destination == E2
    assert (await ask_within(gateway, [E1, E3])).destination == E1


@case(52, config=QK, engines=THREE)
async def test_a_subset_of_strangers_is_503(gateway: Gateway) -> None:
    assert is_no_endpoint(await ask_within(gateway, ["10.0.0.99:8000"]))


@case(53, config=QK, engines=THREE)
async def test_an_empty_subset_is_503(gateway: Gateway) -> None:
    assert is_no_endpoint(await ask_within(gateway, []))


@case(55, config=QK, engines=THREE, differs="a subset entry with a port allows that port only")
async def test_another_port_is_another_endpoint(gateway: Gateway) -> None:
    assert is_no_endpoint(await ask_within(gateway, ["10.0.0.3:9999"]))
    assert (await ask_within(gateway, ["10.0.0.3"])).destination == E3


@case(56, config=QK, engines=THREE)
async def test_a_subset_that_is_no_list_is_no_subset(gateway: Gateway) -> None:
    assert (await ask_within(gateway, E3)).destination == E2


@case(58, config=QK, engines=THREE)
async def test_entries_that_are_no_strings_are_passed_over(gateway: Gateway) -> None:
    assert (await ask_within(gateway, [5, E3])).destination == E3


@case(59, config=QK, engines=THREE, differs="the subset is honoured on any message")
async def test_a_subset_on_the_headers_message_is_honoured(gateway: Gateway) -> None:
    reply = await gateway.ask(request_headers(subset=[E3]), request_body(completion(), end=True))
    assert reply.destination == E3
    assert (await gateway.get(subset=[E1])).destination == E1
