"""The command line."""

import pytest

from pointsman_simulator.core.engine_profile import DEMO, H100_8B
from pointsman_simulator.settings import SimulatorSettings, parse_arguments


def test_without_arguments_all_is_at_its_default() -> None:
    assert parse_arguments([]) == SimulatorSettings()
    assert SimulatorSettings().profile == DEMO


def test_arguments_fill_the_settings_and_change_the_profile() -> None:
    settings = parse_arguments(
        [
            *("--host", "0.0.0.0", "--ports", "18001,18002"),
            *("--model", "m", "--lora", "a", "--lora", "b"),
            *("--profile", "8b-h100", "--block-size", "32", "--kv-tokens", "64000"),
            *("--max-loras", "2", "--max-model-len", "9000", "--max-num-seqs", "7"),
            *("--time-factor", "2", "--seed", "-1", "--no-endpoint-header"),
        ]
    )
    assert (settings.host, settings.ports) == ("0.0.0.0", (18001, 18002))
    assert (settings.model, settings.loras) == ("m", ("a", "b"))
    profile = settings.profile
    assert (profile.block_size, profile.total_blocks, profile.max_loras) == (32, 2000, 2)
    assert (profile.max_model_len, profile.max_sequences) == (9000, 7)
    assert profile.token_s == H100_8B.token_s
    assert (settings.time_factor, settings.seed) == (2.0, 2**64 - 1)
    assert not settings.endpoint_header


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--port 70000", "--port"),
        ("--port x", "--port"),
        ("--ports 1,1", "--ports"),
        ("--port 1 --ports 2,3", "not allowed with"),
        ("--profile tpu", "--profile"),
        ("--block-size 0", "--block-size"),
        ("--kv-tokens 15", "--kv-tokens"),
        ("--time-factor 0", "--time-factor"),
        ("--time-factor nan", "--time-factor"),
        ("--lora a --lora a", "--lora"),
        ("--lora llama", "--lora"),
        ("--speed 3", "--speed"),
    ],
)
def test_a_bad_value_ends_the_start_with_the_option_and_the_reason(
    arguments: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments.split())
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_ports_of_kv_events_are_one_an_engine() -> None:
    given = parse_arguments(["--ports", "1,2", "--kv-events-ports", "3,4"])
    assert (given.kv_events_ports, given.kv_replay_ports) == ((3, 4), ())
    for arguments in (
        ["--ports", "1,2", "--kv-events-ports", "3"],
        ["--port", "1", "--kv-events-ports", "3", "--kv-replay-ports", "4,5"],
    ):
        with pytest.raises(SystemExit):
            parse_arguments(arguments)
