"""Options of every command that writes a configuration of the gateway."""

import argparse

from pointsman_cli.core.gateway_options import CompletionSignal, ResponseMode


def add_gateway_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--response-mode",
        type=ResponseMode,
        choices=list(ResponseMode),
        default=ResponseMode.STREAMED,
        help="how responses pass the edge (%(default)s)",
    )
    parser.add_argument(
        "--completion-signal",
        type=CompletionSignal,
        choices=list(CompletionSignal),
        default=CompletionSignal.ACCESS_LOG,
        help="how the edge learns that a response has ended (%(default)s)",
    )
