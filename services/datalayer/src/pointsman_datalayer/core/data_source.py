"""What a source and an extractor of the data layer are: plugins that a configuration names.

A source brings bytes of one endpoint; its extractors, in their order, make numbers of them, which
the scheduler sees as the endpoint's attributes. Both know nothing of the bus, of other endpoints,
or of when they are called.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pointsman_datalayer.core.fetching import Fetcher
from pointsman_datalayer.core.listed_endpoints import DiscoveredEndpoint

MAX_ATTRIBUTES = 64
MAX_NAME = 200
"""Of one source: attributes of an endpoint, and characters of a name."""


class DataSource(Protocol):
    async def read(self, endpoint: DiscoveredEndpoint, http: Fetcher) -> bytes:
        """Bring what an endpoint has to say. Given up after the deadline of a scrape.

        Raises:
            UnreachableError, NonsenseError: there is nothing to bring.
        """
        ...


class Extractor(Protocol):
    def extract(self, endpoint: DiscoveredEndpoint, body: bytes) -> Mapping[str, float]:
        """Attributes by name. What is not finite is left out.

        Raises:
            ValueError: the body is not what it should be.
        """
        ...


@dataclass(frozen=True, slots=True)
class NamedExtractor:
    type_name: str
    extractor: Extractor


@dataclass(frozen=True, slots=True)
class PolledSource:
    """A source with its pace."""

    type_name: str
    name: str
    source: DataSource
    extractors: tuple[NamedExtractor, ...]
    interval_s: float


def acceptable(attributes: Mapping[str, float]) -> dict[str, float]:
    """What of a plugin's attributes is carried on."""
    kept: dict[str, float] = {}
    for name, value in attributes.items():
        if len(kept) < MAX_ATTRIBUTES and 0 < len(name) <= MAX_NAME and math.isfinite(value):
            kept[name] = float(value)
    return kept


def extract_all(
    polled: PolledSource, endpoint: DiscoveredEndpoint, body: bytes
) -> tuple[dict[str, float], dict[str, str]]:
    """Attributes of all extractors together, and what is wrong by the type of the extractor."""
    found: dict[str, float] = {}
    problems: dict[str, str] = {}
    for one in polled.extractors:
        try:
            found |= one.extractor.extract(endpoint, body)
        except Exception as error:
            # A plugin of others may fail in any way: its attributes are unknown, and all else goes
            # on. The cause is shown by the metric of its type and in the log.
            problems[one.type_name] = str(error) or type(error).__name__
    return acceptable(found), problems
