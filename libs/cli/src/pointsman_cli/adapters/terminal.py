"""Where the verbs with tables print to."""

import sys

from rich.console import Console

WIDE = 400
"""Columns where nobody looks at a terminal: a line of a table stays a line."""


def open_console() -> Console:
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
