"""`python -m pointsman_ext_proc [--config FILE]`"""

import argparse
import sys

from pointsman_common.lifecycle import run_service
from pointsman_ext_proc import app


def main() -> int:
    parser = argparse.ArgumentParser(prog="pointsman-ext-proc", description="The edge.")
    parser.add_argument("--config", help="YAML file of settings")
    arguments = parser.parse_args()
    return run_service(lambda: app.main(arguments.config))


if __name__ == "__main__":
    sys.exit(main())
