"""`pointsman smoke`: asks a gateway what a client may ask, and judges the answers."""

import argparse
import time

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pointsman_cli.core.sample_pool import LORA, MODEL
from pointsman_cli.core.smoke_cases import Answer, SmokeCase, smoke_cases


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code 0 when every answer is right."
    parser.add_argument(
        "--url", default="http://127.0.0.1:8080", help="of the gateway (%(default)s)"
    )
    parser.add_argument("--model", default=MODEL, help="that the pool serves (%(default)s)")
    parser.add_argument("--lora", default=LORA, help="adapter; empty: none (%(default)s)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="of each request (%(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("request", "status", "time", "verdict"):
        table.add_column(title, justify="right" if title in ("status", "time") else "left")
    failures = 0
    # Straight to the gateway: a proxy of the environment is none of its clients.
    with httpx.Client(base_url=options.url, timeout=options.timeout, trust_env=False) as client:
        for case in smoke_cases(options.model, options.lora):
            began = time.perf_counter()
            status, problem = _ask(client, case)
            took = f"{(time.perf_counter() - began) * 1000:.0f} ms"
            verdict = f"[red]{escape(problem)}[/]" if problem else "[green]ok[/]"
            table.add_row(case.name, status, took, verdict)
            failures += bool(problem)
    Console(highlight=False, soft_wrap=True).print(table)
    return 1 if failures else 0


def _ask(client: httpx.Client, case: SmokeCase) -> tuple[str, str]:
    headers = {"content-type": "application/json"}
    try:
        if case.body is None:
            reply = client.get(case.path)
        else:
            reply = client.post(case.path, content=case.body, headers=headers)
    except httpx.HTTPError as error:
        return "", f"{type(error).__name__}: {error}"
    answer = Answer(reply.status_code, reply.headers.get("content-type", ""), reply.content)
    return str(reply.status_code), case.judge(answer)
