"""`GET /rules` of the admin address: the rules in force, and what was refused and why."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter


def rules_page(described: Callable[[], Mapping[str, Any]]) -> APIRouter:
    router = APIRouter()

    async def rules() -> Mapping[str, Any]:
        return described()

    router.get("/rules")(rules)
    return router
