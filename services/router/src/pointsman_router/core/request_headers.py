"""The request headers that have a meaning here, by their current and their older names.

Source of the names: llm-d-router, pkg/epp/metadata. Of two headers with one name the first counts;
of a current and an older name the current one, even if it is empty.
"""

from collections.abc import Collection, Iterable, Mapping

OBJECTIVE = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
FAIRNESS_ID = ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id")
MODEL_REWRITE = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")
TTFT_SLO_MS = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
TPOT_SLO_MS = ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms")
QUEUE_TTL_MS = ("x-pointsman-queue-ttl-ms",)
VIDEO = ("x-llm-d-video-fps", "x-llm-d-video-duration-seconds", "x-llm-d-video-resolution")
PREFER = "prefer"

CONTROL = frozenset(
    (*OBJECTIVE, *FAIRNESS_ID, *MODEL_REWRITE, *TTFT_SLO_MS, *TPOT_SLO_MS, *QUEUE_TTL_MS, *VIDEO)
)
"""Said to us, and of no concern to a model server."""

LIMITS = frozenset((*TTFT_SLO_MS, *TPOT_SLO_MS, *QUEUE_TTL_MS))
"""Those that say how long a request may take."""

FORBIDDEN = frozenset(
    (
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "transfer-encoding",
        "upgrade",
        "x-gateway-destination-endpoint",
        "x-gateway-destination-endpoint-served",
        "x-gateway-destination-endpoint-subset",
        "x-request-id",
    )
)
"""Not a rule's to change: they frame the body, or are the picker protocol's own."""

MAX_FORWARDED_BYTES = 4096
"""A longer value is not handed to plugins: a part of it would mean something else."""


class RequestHeaders:
    """The headers of one request, by lower-case name."""

    def __init__(self, items: Iterable[tuple[str, bytes]]) -> None:
        given = [(key.lower(), value) for key, value in items]
        self._values = dict(reversed(given))  # of two with one name the first stays
        # A list, which may be spread over several (RFC 7240, section 2).
        self._preferences = (
            [value for name, value in given if name == PREFER] if PREFER in self._values else []
        )

    def get(self, *names: str) -> str | None:
        """The value of the first name that is there; what is not UTF-8 is replaced."""
        for name in names:
            value = self._values.get(name)
            if value is not None:
                return value.decode(errors="replace").strip()
        return None

    def path(self) -> str:
        """The path without its query. Without any, upstream assumes completions."""
        found = self.get(":path", "x-original-path", "x-forwarded-path") or "/v1/completions"
        return found.partition("?")[0]

    def prefers(self, preference: str) -> bool:
        """Whether `prefer` lists a preference, with or without a value or parameters."""
        return bool(self._preferences) and any(
            token.partition(b";")[0].partition(b"=")[0].strip().lower() == preference.encode()
            for value in self._preferences
            for token in value.split(b",")
        )

    def edited(self, changed: Mapping[str, str], removed: Iterable[str]) -> "RequestHeaders":
        """These headers with others taken off, and then some set."""
        gone = {name.lower() for name in removed} | {name.lower() for name in changed}
        edited = RequestHeaders(())
        edited._values = {name: value for name, value in self._values.items() if name not in gone}
        edited._values |= {name.lower(): value.encode() for name, value in changed.items()}
        edited._preferences = [] if PREFER in gone else self._preferences
        if PREFER in edited._values and PREFER in gone:
            edited._preferences = [edited._values[PREFER]]
        return edited

    def control_names(self) -> list[str]:
        """The control headers that the request has."""
        if CONTROL.isdisjoint(self._values):
            return []
        return sorted(CONTROL.intersection(self._values))

    def selected(self, names: Collection[str]) -> Mapping[str, str]:
        """Those of `names` that are there and not too long."""
        return {
            name: value.decode(errors="replace")
            for name in names
            if (value := self._values.get(name)) is not None and len(value) <= MAX_FORWARDED_BYTES
        }


def milliseconds(text: str | None, *, most: int = 0xFFFFFFFF) -> int | None:
    """A positive number of milliseconds, at most `most`; `None` where the text is none."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    # The comparison is also false for nan.
    return int(min(value, most)) if value >= 1 else None
