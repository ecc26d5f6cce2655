"""Addresses of calls: `host:port`, or `unix:///path/to/socket`."""


def grpcio_target(address: str) -> str:
    """Return the form that grpcio listens on and dials.

    Raises:
        ValueError: neither `host:port` nor a `unix://` URL.
    """
    if address.startswith("unix://"):
        return "unix:" + address.removeprefix("unix://")
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit():
        raise ValueError(f"{address!r} is neither host:port nor unix:///path")
    return address
