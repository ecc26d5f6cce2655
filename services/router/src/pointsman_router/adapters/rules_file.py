"""Reads the router's own rules from a file, at the start and whenever it has changed."""

from collections.abc import Callable
from pathlib import Path

import yaml

from pointsman_common.clock import Clock
from pointsman_common.errors import SettingsError
from pointsman_common.strict_yaml import load_yaml
from pointsman_common.structured_log import get_logger

log = get_logger("rules-file")

OWN = "file"
"""Name of the policy that the file is."""


class RulesFile:
    """A part of the service. Bad rules are refused: those before stay in force."""

    def __init__(
        self,
        path: str,
        clock: Clock,
        *,
        reload_s: float,
        use: Callable[[str, object], None],
        on_refused: Callable[[SettingsError], None],
    ) -> None:
        """`use` is given the policy's name and the rules as plain data; raises SettingsError."""
        self._path, self._clock, self._reload_s = Path(path), clock, reload_s
        self._use, self._on_refused = use, on_refused
        self._seen: str | None = None

    def load(self) -> None:
        """Take over the file as it is now, if it is another than before.

        Raises:
            SettingsError: it cannot be read, or its rules cannot be.
        """
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._seen = None  # so that it is taken over again once it is back
            raise SettingsError("rules_file", f"{self._path} cannot be read: {error}") from error
        if text == self._seen:
            return
        self._seen = text
        try:
            spec = load_yaml(text)
        except yaml.YAMLError as error:
            why = " ".join(str(error).split())
            raise SettingsError("rules_file", f"{self._path} is not YAML: {why}") from error
        self._use(OWN, spec if spec is not None else {"rules": []})

    async def run(self) -> None:
        unreadable = ""
        while True:
            await self._clock.sleep(self._reload_s)
            before = self._seen
            try:
                self.load()
            except SettingsError as error:
                # A file that cannot be read is said once, not each second.
                if str(error) != unreadable:
                    unreadable = str(error)
                    self._on_refused(error)
            else:
                unreadable = ""
                if self._seen != before:
                    log.info("rules-taken-over", path=str(self._path))
