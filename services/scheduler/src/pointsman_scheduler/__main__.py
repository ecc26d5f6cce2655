"""`python -m pointsman_scheduler [--config FILE]`"""

import sys

from pointsman_common.lifecycle import run_service
from pointsman_scheduler.app import main

if __name__ == "__main__":
    sys.exit(run_service(main))
