"""Free loopback ports; two runs and two workers never get the same one."""

from pointsman_cli.adapters.free_ports import free_ports


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, claimed for this process."""
    [port] = free_ports(1)
    return port
