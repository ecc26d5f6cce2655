import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `case` is run with each of the CASES of its file."""
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", metafunc.module.CASES, ids=str)
