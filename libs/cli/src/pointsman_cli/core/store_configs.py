"""Configuration of NATS and Redis: neither keeps anything that a restart could not give again."""


def nats_config(host: str, port: int, monitor_port: int) -> str:
    return f"""\
# The bus: NATS core only, at most once; nothing is stored.
server_name: pointsman
listen: "{host}:{port}"
http: "{host}:{monitor_port}"
# A snapshot of a pool with 10,000 endpoints fits.
max_payload: 8MB
# A subscriber that cannot follow is cut off; it reads a snapshot when it is back.
write_deadline: "2s"
"""


def redis_config(host: str, port: int) -> str:
    return f"""\
# Warm starts, and the history of decisions as capped streams; never on a request's path.
bind {host}
port {port}
protected-mode no
save ""
appendonly no
maxmemory 256mb
maxmemory-policy allkeys-lru
"""
