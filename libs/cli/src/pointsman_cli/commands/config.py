"""`pointsman config`: what an EndpointPickerConfig does, completed, and against another."""

import argparse
import sys
from pathlib import Path

import msgspec
from rich.markup import escape
from rich.table import Table

from pointsman_cli.adapters.terminal import open_console
from pointsman_cli.core.config_explanation import (
    as_yaml,
    complete_config,
    config_differences,
    explain_config,
)
from pointsman_common.endpoint_picker_config import config_hash
from pointsman_common.errors import SettingsError
from pointsman_scheduler.adapters.installed_plugins import with_installed
from pointsman_scheduler.core.config import DEFAULT_POLICIES
from pointsman_scheduler.plugins.catalogue import PLUGINS

HELP = "a file, or one of the defaults: " + ", ".join(DEFAULT_POLICIES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code 0; 1 when diff finds something; 2 when a configuration is refused."
    deeds = parser.add_subparsers(dest="deed", metavar="DEED", required=True)
    for deed, what in (
        ("check", "say whether it can be used, and what each part of it does"),
        ("show", "print it with every default written out"),
        ("diff", "print what differs between two, defaults written out"),
    ):
        below = deeds.add_parser(deed, help=what, description=f"{what[0].upper()}{what[1:]}.")
        below.add_argument("config", metavar="CONFIG", help=HELP)
        if deed == "diff":
            below.add_argument("other", metavar="OTHER", help=HELP)
        if deed != "show":
            below.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    try:
        return {"check": _check, "show": _show, "diff": _diff}[options.deed](options)
    except SettingsError as error:
        print(f"pointsman config: {error}", file=sys.stderr)
        return 2


def _check(options: argparse.Namespace) -> int:
    text = _read(options.config)
    parts = explain_config(text, with_installed(PLUGINS))
    if options.json:
        print(msgspec.json.encode({"config_hash": config_hash(text), "parts": parts}).decode())
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("where", "role", "plugin", "weight", "does"):
        table.add_column(title, justify="right" if title == "weight" else "left")
    for part in parts:
        name = part.type if part.name == part.type else f"{part.name} ({part.type})"
        weight = "" if part.weight is None else f"{part.weight:g}"
        table.add_row(part.where, part.role, escape(name), weight, escape(part.does))
    console = open_console()
    console.print(table)
    console.print(f"It can be used; its hash is {config_hash(text)}.")
    return 0


def _show(options: argparse.Namespace) -> int:
    print(as_yaml(complete_config(_read(options.config), with_installed(PLUGINS))), end="")
    return 0


def _diff(options: argparse.Namespace) -> int:
    found = config_differences(_read(options.config), _read(options.other), with_installed(PLUGINS))
    if options.json:
        entries = [{"key": key, "here": here, "there": there} for key, here, there in found]
        print(msgspec.json.encode(entries).decode())
    for key, here, there in () if options.json else found:
        print(f"{key}: {_shown(here)} -> {_shown(there)}")
    if not found and not options.json:
        print("they do the same")
    return 1 if found else 0


def _shown(value: object) -> str:
    return "(not there)" if value is None else msgspec.json.encode(value).decode()


def _read(name: str) -> str:
    """Raises SettingsError when there is no such file or default."""
    if name in DEFAULT_POLICIES and not Path(name).exists():
        return DEFAULT_POLICIES[name]
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(name, f"cannot be read: {error}") from error
