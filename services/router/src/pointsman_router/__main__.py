"""`python -m pointsman_router [--config FILE]`."""

import sys

from pointsman_common.lifecycle import run_service
from pointsman_router.app import main

sys.exit(run_service(main))
