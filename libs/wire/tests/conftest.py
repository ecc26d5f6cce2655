import pytest

from wire import Transport


@pytest.fixture(params=["wire", "grpcio"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """Both engines: a test that takes this runs with each."""
    chosen: Transport = request.param
    return chosen
