"""Addresses of calls: `host:port`, or `unix:///path/to/socket`; of a channel also names."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address


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


Address = TcpAddress | UnixAddress


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to dial, and as whom: a resolved address still goes by the name it was found under."""

    address: Address
    authority: str
    server_name: str
    """The name that TLS asks for."""

    def __str__(self) -> str:
        address = str(self.address)
        named = isinstance(self.address, TcpAddress) and self.authority != address
        return f"{self.authority} ({address})" if named else address


@dataclass(frozen=True, slots=True)
class Target:
    """One address as a channel is given it."""

    address: Address

    @property
    def fixed(self) -> Address | None:
        """The address, where it is no name."""
        if isinstance(self.address, TcpAddress) and not _is_ip(self.address.host):
            return None
        return self.address

    def endpoint(self, address: Address) -> Endpoint:
        """For an address that this target stands for."""
        own = self.address
        if isinstance(own, UnixAddress):
            return Endpoint(address, "localhost", "localhost")
        return Endpoint(address, str(own), own.host)


def parse_address(address: str) -> Address:
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


def parse_targets(addresses: str | Sequence[str]) -> list[Target]:
    """Each of a sequence or comma list of addresses once.

    Raises:
        ValueError: one is no address, or there is none.
    """
    given = [addresses] if isinstance(addresses, str) else addresses
    parts = [part.strip() for item in given for part in item.split(",")]
    targets = [Target(parse_address(part)) for part in parts]
    if not targets:
        raise ValueError("a channel needs an address")
    return list(dict.fromkeys(targets))


def grpcio_listen_target(address: str) -> str:
    """The form that grpcio listens on.

    Raises:
        ValueError: neither `host:port` nor a `unix://` URL.
    """
    parsed = parse_address(address)
    return f"unix:{parsed.path}" if isinstance(parsed, UnixAddress) else address


def grpcio_dial_target(address: Address) -> str:
    """The form in which grpcio dials an address that needs no resolver."""
    if isinstance(address, UnixAddress):
        return f"unix:{address.path}"
    return f"ipv6:{address}" if ":" in address.host else f"ipv4:{address}"


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
