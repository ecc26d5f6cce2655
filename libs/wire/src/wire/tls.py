"""TLS settings of either end, as PEM bytes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerTls:
    """A server's own certificate; with `client_ca` set, clients must present one signed by it."""

    certificate: bytes
    private_key: bytes
    client_ca: bytes | None = None


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What a client trusts (`None`: the system's roots), and its own certificate where asked."""

    server_ca: bytes | None = None
    certificate: bytes | None = None
    private_key: bytes | None = None
    server_name: str | None = None
    """Name that the server's certificate must bear, where it differs from the address."""
