"""Which engine carries the calls."""

from typing import Literal

Transport = Literal["wire", "grpcio"]
"""`wire` is this package's own HTTP/2, `grpcio` the library of that name."""

DEFAULT_TRANSPORT: Transport = "wire"


def check_transport(transport: str) -> None:
    """Raises ValueError when there is no such engine."""
    if transport not in ("wire", "grpcio"):
        raise ValueError(f"transport {transport!r} is neither 'wire' nor 'grpcio'")
