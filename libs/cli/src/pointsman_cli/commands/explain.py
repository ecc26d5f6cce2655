"""`pointsman explain`: why a request went where it went."""

import argparse
import json
import sys
from pathlib import Path

from google.protobuf import json_format
from rich.markup import escape
from rich.table import Table

from pointsman_cli.adapters.datalayer_rest import AskError, DatalayerRest, read_receipt_file
from pointsman_cli.adapters.terminal import open_console
from pointsman_cli.core.explanation import ReceiptTable, Told, table_of, words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "The decision id is in the console's feed, the request id in the answer's x-request-id. "
        "Exit code 1 when there is no such receipt. See docs/explain.md."
    )
    add_source_arguments(parser)
    add = parser.add_argument
    add("id", nargs="?", default="", metavar="ID", help="of a decision or of a request, or a file")
    add("--last", action="store_true", help="the newest decision, in place of an ID")
    add("--all", action="store_true", help="every candidate, and not the best only")
    add("--json", action="store_true", help="the receipt, for programs")


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Where receipts come from."""
    add = parser.add_argument
    add("--url", default="", help="of the datalayer (the stack's that runs here)")
    add("--pool", default="", metavar="NAMESPACE/NAME", help="to look in (every pool)")
    add("--run-dir", type=Path, default=Path(".run"), help="of the stack (%(default)s)")


def run(options: argparse.Namespace) -> int:
    try:
        told = find(options.id, options)
        if options.json:
            print(_document(told))
            return 0
        _print(words(told), table_of(told.receipt, every=options.all))
    except (AskError, ValueError) as error:
        print(f"pointsman explain: {error}", file=sys.stderr)
        return 1
    return 0


def find(key: str, options: argparse.Namespace) -> Told:
    """The receipt of a file, of an id, or the last one.

    Raises:
        AskError: there is none.
    """
    if not key and not getattr(options, "last", False):
        raise AskError("an ID is needed, of a decision or of a request; or --last")
    if key and Path(key).is_file():
        return read_receipt_file(Path(key))
    with DatalayerRest(options.url, options.run_dir) as datalayer:
        return datalayer.decision(key, options.pool)


def _document(told: Told) -> str:
    finished = None if told.finished is None else _plain(told.finished)
    return json.dumps({"receipt": _plain(told.receipt), "finished": finished}, indent=2)


def _plain(message: object) -> object:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)  # type: ignore[arg-type]  # a message


def _print(lines: list[str], shown: ReceiptTable) -> None:
    console = open_console()
    for line in lines:
        console.print(line, markup=False)
    if not shown.rows:
        console.print("The receipt tells no candidates.", markup=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(shown.titles):
        table.add_column(escape(title), justify="left" if number == 0 else "right")
    for number, row in enumerate(shown.rows):
        table.add_row(*map(escape, row), style="green" if number == shown.chosen else None)
    console.print()
    console.print(table)
    if shown.left_out:
        console.print(f"… and {shown.left_out} more candidates", markup=False)
