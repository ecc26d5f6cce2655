"""What the black-box cases share: every layer but Envoy, one pool and one edge a case."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.case_pools import CasePool
from support.metrics_target import MetricsTarget
from support.processes import Process


@dataclass
class Stack:
    admins: dict[str, str]
    """URL of each service's admin API."""
    edges: dict[str, dict[str, Any]]
    """Settings of each pool's edge, by the pool's name."""
    bus_url: str
    datalayer_url: str
    target: MetricsTarget
    manifests: Path
    processes: dict[str, Process]

    @property
    def datalayer_admin(self) -> str:
        return self.admins["datalayer"]

    @property
    def flow_admin(self) -> str:
        return self.admins["flow_controller"]

    def edge_admin(self, pool: CasePool) -> str:
        return f"http://{self.edges[pool.name]['admin_address']}"
