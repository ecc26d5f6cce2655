"""`python -m pointsman_datalayer [--config FILE]`."""

import sys

from pointsman_common.lifecycle import run_service
from pointsman_datalayer.app import main

sys.exit(run_service(main))
