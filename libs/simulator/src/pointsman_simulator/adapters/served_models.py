"""Which model names does the server answer to? The base model, and adapters that come and go."""

from http import HTTPStatus

import msgspec
from aiohttp import web

from pointsman_simulator.adapters.json_body import decode_body
from pointsman_simulator.adapters.vllm_errors import ApiError

MAX_LORAS_KNOWN = 1000


class LoadLora(msgspec.Struct, frozen=True):
    """The body of POST /v1/load_lora_adapter."""

    lora_name: str = ""
    lora_path: str = ""


class UnloadLora(msgspec.Struct, frozen=True):
    """The body of POST /v1/unload_lora_adapter."""

    lora_name: str = ""


_load_decoder = msgspec.json.Decoder(LoadLora)
_unload_decoder = msgspec.json.Decoder(UnloadLora)


class ServedModels:
    """The names of one server, and the handlers that list and change them."""

    def __init__(
        self, base: str, loras: tuple[str, ...], *, max_model_len: int, created: int
    ) -> None:
        self.base = base
        self._paths = {name: f"/loras/{name}" for name in loras}
        self._max_model_len, self._created = max_model_len, created

    def resolve(self, name: str | None) -> tuple[str, str | None]:
        """Return the model's name and, if it is an adapter, the adapter's.

        Raises:
            ApiError: 404, the name is not served.
        """
        if name is None or name == self.base:
            return self.base, None
        if name in self._paths:
            return name, name
        aliases = ", ".join([self.base, *self._paths])
        message = f"The model `{name}` does not exist. Valid aliases: {aliases}."
        raise ApiError(HTTPStatus.NOT_FOUND, message, kind="NotFoundError", param="model")

    def routes(self) -> list[web.RouteDef]:
        """Return the paths served."""
        return [
            web.get("/v1/models", self.list_models),
            web.post("/v1/load_lora_adapter", self.load_lora),
            web.post("/v1/unload_lora_adapter", self.unload_lora),
        ]

    async def list_models(self, request: web.Request) -> web.Response:
        """GET /v1/models."""
        cards = [self._card(self.base, f"/models/{self.base}", parent=None)]
        cards += [self._card(name, path, parent=self.base) for name, path in self._paths.items()]
        body = msgspec.json.encode({"object": "list", "data": cards})
        return web.Response(body=body, content_type="application/json")

    async def load_lora(self, request: web.Request) -> web.Response:
        """POST /v1/load_lora_adapter."""
        wanted = decode_body(_load_decoder, await request.read())
        name = wanted.lora_name
        if not name or not wanted.lora_path:
            raise _invalid("Both 'lora_name' and 'lora_path' must be provided.")
        if name in self._paths or name == self.base:
            raise _invalid(f"The lora adapter '{name}' has already been loaded.")
        if len(self._paths) >= MAX_LORAS_KNOWN:
            raise _invalid(f"No more than {MAX_LORAS_KNOWN} lora adapters can be loaded.")
        self._paths[name] = wanted.lora_path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def unload_lora(self, request: web.Request) -> web.Response:
        """POST /v1/unload_lora_adapter."""
        name = decode_body(_unload_decoder, await request.read()).lora_name
        if not name:
            raise _invalid("'lora_name' needs to be provided to unload a LoRA adapter.")
        if self._paths.pop(name, None) is None:
            message = f"The lora adapter '{name}' cannot be found."
            raise ApiError(HTTPStatus.NOT_FOUND, message, kind="NotFoundError")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    def _card(self, name: str, root: str, parent: str | None) -> dict[str, object]:
        permission = {
            "id": f"modelperm-{name}",
            "object": "model_permission",
            "created": self._created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": root,
            "parent": parent,
            "max_model_len": self._max_model_len if parent is None else None,
            "permission": [permission],
        }


def _invalid(message: str) -> ApiError:
    return ApiError(HTTPStatus.BAD_REQUEST, message, kind="InvalidUserInput")
