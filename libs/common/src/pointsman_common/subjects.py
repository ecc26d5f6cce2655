"""Every subject of the bus, as a function. Nobody else spells one."""

from urllib.parse import quote, unquote

PREFIX = "pointsman.v1"
HEARTBEAT = f"{PREFIX}.layers.heartbeat"

ALL = "*"
"""In place of a pool: every pool (to subscribe, never to publish)."""


def _token(name: str) -> str:
    # A pool's name is one token: a dot would split it, and * > and spaces mean something to NATS.
    return name if name == ALL else quote(name, safe="/:").replace(".", "%2E")


def pool_of(subject: str) -> str:
    """The pool that a subject belongs to."""
    return unquote(subject.split(".")[2])


def pool_config(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.config"


def pool_snapshot(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.state.snapshot"


def pool_delta(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.state.delta"


def pool_share(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.state.share"


def request_picked(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.request.picked"


def request_serving(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.request.serving"


def request_finished(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.request.finished"


def leases_query(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.leases.query"


def decision(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.decision"


def flow_stats(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.flow.stats"


def flow_shares(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.flow.shares"


def flow_evictions(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.flow.evictions"


def kv_events(pool: str, endpoint_uid: str) -> str:
    return f"{PREFIX}.{_token(pool)}.kv.{_token(endpoint_uid)}"


def prefix_query(pool: str) -> str:
    return f"{PREFIX}.{_token(pool)}.prefix.query"


def shadow(pool: str, name: str) -> str:
    return f"{PREFIX}.{_token(pool)}.shadow.{_token(name)}"
