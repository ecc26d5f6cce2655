import json

import pytest
import structlog

from pointsman_common.structured_log import configure_log, get_logger


@pytest.fixture(autouse=True)
def _leave_no_configuration() -> object:
    yield
    structlog.reset_defaults()


def test_lines_are_events_with_fields_and_their_part(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log(level="info", form="json")
    get_logger("bus").info("bus-lost", url="nats://a:1")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["part"], line["url"]) == ("bus-lost", "bus", "nats://a:1")
    assert (line["level"], line["timestamp"][-1]) == ("info", "Z")


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log(level="warning", form="text")
    get_logger("bus").info("bus-back")
    get_logger("bus").warning("bus-lost")
    written = capsys.readouterr().err
    assert "bus-lost" in written
    assert "bus-back" not in written


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_shows_where_and_never_what(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_log(form=form)

    def fail(prompt: str) -> None:
        raise ValueError(len(prompt))

    try:
        fail("s3c" + "ret prompt")
    except ValueError:
        get_logger("rpc-server").exception("call-failed", path="/demo")
    written = capsys.readouterr().err
    assert "ValueError" in written
    assert "in fail" in written
    assert "s3cret" not in written
