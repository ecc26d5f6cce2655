"""Settings of the whole test run."""

import os
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# The machine may be busy with the other workers: a slow example is not a failing one. The gate
# gives the same verdict on the same code; the runs of people look for new examples.
settings.register_profile("pointsman", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("pointsman")


class ByStack(LoadScopeScheduling):
    """Tests that share running processes go to the same worker: those of a file, and the cases."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "tests/upstream" if path.startswith("tests/upstream/") else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStack:
    return ByStack(config, log)
