"""Every failure that a caller may see.

    PointsmanError
    ├── SettingsError              the service was told something it cannot do: it does not start
    ├── BusUnavailableError        the bus did not take or answer a message in time
    ├── LayerUnavailableError      no replica of a layer answered in time
    ├── LayerFailedError           a layer answered with an error
    └── RequestError               the request itself cannot be served; knows its HTTP status
        ├── BadRequestError
        ├── NotFoundError
        └── PayloadTooLargeError

Expected outcomes (shed, no endpoint) are values in `core/`, not exceptions: see `Rejection` in
layer.proto and `error_mapping.py`.
"""

from typing import ClassVar


class PointsmanError(Exception):
    """Base of every failure a caller may see."""

    reason: ClassVar[str] = "internal"  # metric label: never reworded


class SettingsError(PointsmanError):
    """A setting is unknown or has a value that cannot be."""

    reason = "settings"

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}" if key else why)
        self.key, self.why = key, why


class BusUnavailableError(PointsmanError):
    """The bus did not take or answer a message in time."""

    reason = "bus-unavailable"


class LayerUnavailableError(PointsmanError):
    """No replica of a layer answered in time."""

    reason = "layer-unavailable"

    def __init__(self, layer: str, why: str) -> None:
        super().__init__(f"layer {layer} is not reachable: {why}")
        self.layer, self.why = layer, why


class LayerFailedError(PointsmanError):
    """A layer was reached and failed."""

    reason = "layer-failed"

    def __init__(self, layer: str, why: str) -> None:
        super().__init__(f"layer {layer} failed: {why}")
        self.layer, self.why = layer, why


class RequestError(PointsmanError):
    """The request cannot be served as it stands."""

    reason = "request"
    code: ClassVar[str] = "BadRequest"

    def __init__(self, message: str, *, param: str = "") -> None:
        super().__init__(message)
        self.message, self.param = message, param


class BadRequestError(RequestError):
    reason = "bad-request"


class NotFoundError(RequestError):
    reason = "not-found"
    code = "NotFound"


class PayloadTooLargeError(RequestError):
    reason = "payload-too-large"
    code = "PayloadTooLarge"
