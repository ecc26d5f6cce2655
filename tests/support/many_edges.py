"""Many edges in one process, each bound to its own pool: `python -m support.many_edges FILE`.

FILE is JSON: a list of settings of the edge. What runs is the edge itself, composed as its service
composes it; only the process is shared, since a case is not worth one of its own.
"""

import json
import sys
from pathlib import Path

import msgspec

from pointsman_common.clock import SystemClock
from pointsman_common.identity import replica_id
from pointsman_common.lifecycle import run_service, run_until_signalled
from pointsman_common.nats_bus import NatsBus
from pointsman_common.structured_log import configure_log
from pointsman_ext_proc.app import compose
from pointsman_ext_proc.settings import ExtProcSettings


async def main() -> None:
    listed = json.loads(Path(sys.argv[1]).read_text())
    settings = [msgspec.convert(each, ExtProcSettings) for each in listed]
    configure_log(level="warning")
    clock = SystemClock()
    bus = NatsBus(settings[0].bus_url, clock, name="edges")
    edges = [compose(each, bus, clock, replica=replica_id("ext-proc")) for each in settings]
    parts = [part for edge in edges for part in edge.parts]
    await run_until_signalled(*parts, bus, drain_s=0.1)


if __name__ == "__main__":
    sys.exit(run_service(main))
