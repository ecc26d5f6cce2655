"""What the sources of the data layer ask the endpoints with, and how that can fail."""

from dataclasses import dataclass
from typing import Protocol


class UnreachableError(Exception):
    """The endpoint could not be connected to, or did not answer in time."""


class NonsenseError(Exception):
    """The endpoint answered what was not asked for."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """How a source trusts its endpoints, and shows itself; paths of PEM files."""

    verify: bool = True
    ca: str = ""
    """Empty: what the system trusts."""
    certificate: str = ""
    key: str = ""


class Fetcher(Protocol):
    async def fetch(self, url: str, tls: TlsFiles | None = None) -> bytes:
        """GET a URL of http or https.

        Raises:
            UnreachableError: no connection, or no whole answer in time.
            NonsenseError: another status than 200, an answer too long, or no HTTP.
        """
        ...
