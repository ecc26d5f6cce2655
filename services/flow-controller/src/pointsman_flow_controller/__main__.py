"""`python -m pointsman_flow_controller [--config FILE]`."""

import sys

from pointsman_common.lifecycle import run_service
from pointsman_flow_controller.app import main

sys.exit(run_service(main))
