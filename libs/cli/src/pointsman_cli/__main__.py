"""The `pointsman` command: reads the command line and calls the verb."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

VERBS = {
    "up": "start the whole stack on this machine",
    "status": "show the parts of the running stack",
    "logs": "show what the parts wrote",
    "down": "stop the stack",
    "smoke": "ask a gateway what a client may ask, and judge the answers",
    "replay": "run traces through policies and simulated engines, and compare them",
    "explain": "tell why a request went where it went",
    "shadow": "show what shadow schedulers would have done",
    "config": "check, show and compare EndpointPickerConfigs",
    "envoy-config": "print Envoy's configuration",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        return 130


def _run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pointsman",
        description="Pointsman picks the model server for each request to a pool of them.",
        epilog="`pointsman VERB --help` tells more.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, what in VERBS.items():
        below = verbs.add_parser(verb, help=what, description=f"{what[0].upper()}{what[1:]}.")
        if verb in words:  # one verb's imports are enough
            _module(verb).add_arguments(below)
    options = parser.parse_args(words)
    code: int = _module(options.verb).run(options)
    return code


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"pointsman_cli.commands.{verb.replace('-', '_')}")


if __name__ == "__main__":
    sys.exit(main())
