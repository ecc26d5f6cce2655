"""Adapters come and go, and the model list says so."""

from typing import Any

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


async def test_the_base_model_and_its_adapters_are_listed(client: Any) -> None:
    body = await client.get("/v1/models")
    assert body["object"] == "list"
    base, adapter = body["data"]
    assert (base["id"], base["parent"], base["max_model_len"]) == ("llama", None, 131_072)
    assert (adapter["id"], adapter["parent"], adapter["max_model_len"]) == (
        "llama-sql",
        "llama",
        None,
    )
    assert base["permission"][0]["object"] == "model_permission"


async def test_a_loaded_adapter_is_served_until_it_is_unloaded(client: Any) -> None:
    ask = {"model": "extra", "prompt": "x", "max_tokens": 1}
    assert (await client.post("/v1/completions", ask))[0] == 404
    adapter = {"lora_name": "extra", "lora_path": "/adapters/extra"}
    async with client.session.post(LOAD, json=adapter) as response:
        assert response.status == 200
        assert await response.text() == "Success: LoRA adapter 'extra' added successfully."
    assert (await client.post("/v1/completions", ask))[0] == 200
    names = [card["id"] for card in (await client.get("/v1/models"))["data"]]
    assert names == ["llama", "llama-sql", "extra"]
    async with client.session.post(UNLOAD, json={"lora_name": "extra"}) as response:
        assert await response.text() == "Success: LoRA adapter 'extra' removed successfully."
    assert (await client.post("/v1/completions", ask))[0] == 404


async def test_loading_and_unloading_can_be_refused(client: Any) -> None:
    async def refused(path: str, body: object) -> tuple[int, str]:
        status, answer = await client.post(path, body)
        return status, answer["error"]["type"]

    assert await refused(LOAD, {"lora_name": "x"}) == (400, "InvalidUserInput")
    again = {"lora_name": "llama-sql", "lora_path": "/p"}
    assert await refused(LOAD, again) == (400, "InvalidUserInput")
    assert await refused(UNLOAD, {}) == (400, "InvalidUserInput")
    assert await refused(UNLOAD, {"lora_name": "nope"}) == (404, "NotFoundError")
    assert await refused(LOAD, {"lora_name": 1}) == (400, "Bad Request")
