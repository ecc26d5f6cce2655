"""Addresses of calls: `host:port`, or `unix:///path/to/socket`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TcpAddress:
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


def parse_address(address: str) -> TcpAddress | UnixAddress:
    """IPv6 hosts are written in brackets.

    Raises:
        ValueError: neither `host:port` nor a `unix://` URL.
    """
    if address.startswith("unix://"):
        return UnixAddress(address.removeprefix("unix://"))
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit():
        raise ValueError(f"{address!r} is neither host:port nor unix:///path")
    return TcpAddress(host.removeprefix("[").removesuffix("]"), int(port))


def grpcio_target(address: str) -> str:
    """The form that grpcio listens on and dials.

    Raises:
        ValueError: neither `host:port` nor a `unix://` URL.
    """
    parsed = parse_address(address)
    return f"unix:{parsed.path}" if isinstance(parsed, UnixAddress) else address
