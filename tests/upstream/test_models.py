"""Cases 61–71: model names, rewrites and adapters."""

import json
from collections import Counter

import pytest
from support.case_configs import LORA, LORA_ONLY, QK
from support.case_pools import Engine, case, rewrite, rule
from support.ext_proc_client import Gateway, response_body, response_headers
from support.request_bodies import E1, E2, asks, completion

ONE = (Engine(),)


async def sent_model(gateway: Gateway, model: str = "m", **headers: str) -> str:
    reply = await gateway.ask(*asks(completion(model), **headers))
    assert reply.destination == E1
    assert reply.header("content-length") == str(len(reply.body))
    return str(json.loads(reply.body)["model"])


@case(61, config=QK, engines=ONE)
async def test_a_header_rewrites_the_model_and_the_answer_hides_it(gateway: Gateway) -> None:
    stream = gateway.open()
    await stream.send(*asks(x_llm_d_model_name_rewrite="t"))
    reply = await stream.reply()
    assert json.loads(reply.body)["model"] == "t"
    await stream.send(
        response_headers({"content-type": "application/json"}),
        response_body('{"id":"1","model":"t"}', end=True),
    )
    await stream.receive()
    answer = await stream.receive()
    sent = answer.response_body.response.body_mutation.streamed_response
    assert json.loads(sent.body) == {"id": "1", "model": "m"}


@case(62, config=QK, engines=ONE, objects=(rewrite("w", rule("m", ("t", None))),))
async def test_an_exact_rule_rewrites_the_model(gateway: Gateway) -> None:
    assert await sent_model(gateway) == "t"
    assert await sent_model(gateway, "other") == "other"


@case(
    64,
    config=QK,
    engines=ONE,
    objects=(
        rewrite("newer", rule("m", ("b", None)), created="2026-02-01T00:00:00Z"),
        rewrite("older", rule("m", ("a", None)), created="2026-01-01T00:00:00Z"),
    ),
)
async def test_the_oldest_exact_rule_wins(gateway: Gateway) -> None:
    assert await sent_model(gateway) == "a"


@case(
    65,
    config=QK,
    engines=ONE,
    objects=(rewrite("w", rule("m", ("a", None)), rule("m", ("b", None))),),
)
async def test_the_first_rule_of_an_object_wins(gateway: Gateway) -> None:
    assert await sent_model(gateway) == "a"


@case(67, config=QK, engines=ONE, objects=(rewrite("w", rule("m", ("a", 3), ("b", 1))),))
async def test_weights_divide_the_requests(gateway: Gateway) -> None:
    seen = Counter([await sent_model(gateway) for _ in range(400)])
    assert 0.70 <= seen["a"] / 400 <= 0.80
    assert seen["a"] + seen["b"] == 400


@case(68, config=QK, engines=ONE, objects=(rewrite("w", rule("m", ("a", None), ("b", None))),))
async def test_targets_without_weights_share_alike(gateway: Gateway) -> None:
    seen = Counter([await sent_model(gateway) for _ in range(200)])
    assert 0.45 <= seen["a"] / 200 <= 0.55
    assert seen["a"] + seen["b"] == 200


@case(
    70,
    config=LORA,
    engines=(
        Engine(10, 0.2, ("foo", "bar"), max_loras=2),
        Engine(10, 0.4, ("foo", "m"), max_loras=2),
        Engine(10, 0.3, ("foo",), max_loras=2),
    ),
)
async def test_a_resident_adapter_beats_a_free_cache(gateway: Gateway) -> None:
    reply = await gateway.ask(*asks())
    assert reply.destination == E2
    scores = reply.metadata["x-gateway-destination-endpoint-scores"]
    assert sorted(scores.values()) == pytest.approx([1.8, 2.5, 2.6], abs=1e-6)


@case(
    71,
    config=LORA_ONLY,
    engines=(
        Engine(loras=("m",), max_loras=2),
        Engine(loras=("foo",), max_loras=2),
        Engine(loras=("foo", "bar"), waiting_loras=("m",), max_loras=2),
        Engine(loras=("foo", "bar"), max_loras=2),
    ),
)
async def test_adapters_score_in_four_tiers(gateway: Gateway) -> None:
    reply = await gateway.ask(*asks())
    scores = reply.metadata["x-gateway-destination-endpoint-scores"]
    assert [scores[f"10.0.0.{index}:8000"] for index in (1, 2, 3, 4)] == pytest.approx(
        [1.0, 0.8, 0.6, 0.0], abs=1e-6
    )
