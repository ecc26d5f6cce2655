"""The field `grpc-timeout`: at most 8 digits and a unit."""

from math import ceil

_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MOST_DIGITS = 8
_MILLISECONDS_FROM_S = 0.1
_LONGEST_S = 90_000.0
"""Longer timeouts are told as this one; the caller's own holds."""


def round_timeout(timeout_s: float) -> tuple[int, bytes]:
    """A number and unit for a wait of `timeout_s` seconds: never shorter, up to a tenth longer.

    Rounded up to two digits that count, so that calls with whatever is left of a deadline send few
    different header blocks; the caller keeps its own deadline exactly.
    """
    if timeout_s < _MILLISECONDS_FROM_S:
        number, unit = ceil(timeout_s * 1e6), b"u"
    else:
        number, unit = ceil(min(timeout_s, _LONGEST_S) * 1e3), b"m"
    scale = 1
    while number > 99 * scale:
        scale *= 10
    return -(-number // scale) * scale, unit


def encode_timeout(number: int, unit: bytes) -> bytes:
    return b"%d%s" % (number, unit)


def parse_timeout(value: bytes) -> float:
    """Seconds.

    Raises:
        ValueError: not of the form.
    """
    digits, unit = value[:-1], value[-1:]
    if not digits.isdigit() or len(digits) > _MOST_DIGITS or unit not in _SECONDS:
        raise ValueError(f"{value!r} is no grpc-timeout")
    return int(digits) * _SECONDS[unit]
