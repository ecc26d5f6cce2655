"""Asks the datalayer's REST API, of the stack that runs here or of any other."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from pointsman_cli.adapters.run_folder import RunFolder
from pointsman_cli.core.explanation import Told
from pointsman_common.contracts.events_pb2 import RequestFinished
from pointsman_common.contracts.scheduling_pb2 import DecisionReceipt

TIMEOUT_S = 10.0


class AskError(Exception):
    """What was asked for cannot be had; the message says why, for people."""


class DatalayerRest:
    """To be used in a `with` block. `url` of the datalayer; empty: the one of the stack in
    `run_dir`.

    Raises:
        AskError: nothing runs there.
    """

    def __init__(self, url: str, run_dir: Path) -> None:
        if not url:
            record = RunFolder(run_dir).read_record()
            if record is None:
                raise AskError(f"nothing runs in {run_dir}; --url names a datalayer elsewhere")
            url = record.console
        self.url = url.rstrip("/")
        # Straight to it: a proxy of the environment is no part of the stack.
        self._client = httpx.Client(base_url=self.url, timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def decision(self, key: str, pool: str = "") -> Told:
        """A decision by its id or its request's; empty: the last one.

        Raises:
            AskError: no pool has it, or the datalayer cannot be asked.
        """
        pools = [pool] if pool else self.pools()
        if not key:
            key, pools = self._last(pools)
        for name in pools:
            reply = self._get(f"/v1/pools/{quote(name)}/decisions/{quote(key, safe='')}")
            if reply.is_success:
                return told_of(reply.json())
        raise AskError(f"no decision or request {key!r} in {', '.join(pools)}; {self._kept()}")

    def pools(self) -> list[str]:
        """Raises AskError."""
        reply = self._get("/v1/pools")
        if not reply.is_success:
            raise AskError(f"{self.url}/v1/pools answers {reply.status_code}: is it a datalayer?")
        return [item["pool"] for item in reply.json()["pools"]]

    def settings(self) -> Mapping[str, Any]:
        """Raises AskError."""
        reply = self._get("/settings")
        settings: Mapping[str, Any] = reply.json() if reply.is_success else {}
        return settings

    def _last(self, pools: list[str]) -> tuple[str, list[str]]:
        newest: tuple[float, str, str] | None = None
        for name in pools:
            reply = self._get(f"/v1/pools/{quote(name)}/decisions?limit=1")
            if not reply.is_success:
                continue
            for item in reply.json()["decisions"]:
                found = (float(item["decided_at"]), str(item["decision_id"]), name)
                newest = max(newest, found) if newest else found
        if newest is None:
            raise AskError(f"no decision was made yet in {', '.join(pools) or 'any pool'}")
        return newest[1], [newest[2]]

    def _kept(self) -> str:
        settings = self.settings()
        kept, stored = settings.get("decisions_kept"), settings.get("decisions_stored")
        if kept is None or stored is None:
            return "receipts are kept for a while only"
        return (
            f"the datalayer keeps the last {kept} receipts, and the last {stored} receipts and "
            "ends of each pool where Redis is there (decisions_kept, decisions_stored); schedulers "
            "with `receipts: sampled` or `off` do not publish all"
        )

    def _get(self, path: str) -> httpx.Response:
        try:
            return self._client.get(path)
        except httpx.HTTPError as error:
            raise AskError(f"{self.url} does not answer: {error}") from error


def told_of(document: Mapping[str, Any]) -> Told:
    """What the REST API answers, or a receipt alone, in protobuf's JSON form.

    Raises:
        AskError: it is neither.
    """
    receipt, finished = document.get("receipt", document), document.get("finished")
    try:
        return Told(
            json_format.ParseDict(receipt, DecisionReceipt(), ignore_unknown_fields=True),
            None
            if finished is None
            else json_format.ParseDict(finished, RequestFinished(), ignore_unknown_fields=True),
        )
    except (json_format.ParseError, AttributeError, TypeError) as error:
        raise AskError(f"this is no receipt: {error}") from error


def read_receipt_file(path: Path) -> Told:
    """What `pointsman explain --json` has written, or a receipt as it goes over the bus.

    Raises:
        AskError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AskError(f"{path} cannot be read: {error.strerror}") from error
    if content.lstrip()[:1] == b"{":
        try:
            return told_of(json.loads(content))
        except ValueError as error:
            raise AskError(f"{path} is no JSON: {error}") from error
    try:
        return Told(DecisionReceipt.FromString(content))
    except DecodeError as error:
        raise AskError(f"{path} is neither a receipt in JSON nor in protobuf") from error
