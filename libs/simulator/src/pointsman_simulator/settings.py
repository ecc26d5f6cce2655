"""Everything the simulator can be told; its command line fills one frozen value."""

import argparse
from collections.abc import Sequence

import msgspec

from pointsman_simulator.core.engine_profile import PROFILES, EngineProfile


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One process: the same model behind one or more ports, each with an engine of its own."""

    host: str = "127.0.0.1"

    ports: tuple[int, ...] = (8000,)
    """0 takes a free port."""

    model: str = "llama"
    loras: tuple[str, ...] = ()
    profile: EngineProfile = PROFILES["demo"]

    time_factor: float = 1.0
    """Stretches every step of the engine: 2.0 is half as fast as the profile."""

    seed: int = 0
    """Draws the answers: their words, and their lengths where the client sets none."""

    kv_events_ports: tuple[int, ...] = ()
    """Where each engine publishes its KV events over ZeroMQ; empty: nowhere."""

    kv_replay_ports: tuple[int, ...] = ()
    """Where each repeats them; empty: nowhere."""

    endpoint_header: bool = True
    """Whether responses carry `x-simulator-endpoint`, the address that served."""


def parse_arguments(arguments: Sequence[str] | None = None) -> SimulatorSettings:
    """Read the command line; a bad value ends the process with the option's name and the reason."""
    parser = argparse.ArgumentParser(
        prog="pointsman_simulator", description="A model server without a model, looking like vLLM."
    )
    default = SimulatorSettings()
    parser.add_argument("--host", default=default.host)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=_port, default=default.ports[0], help="0 takes a free one")
    where.add_argument("--ports", type=_ports, help="comma list: several engines in one process")
    parser.add_argument("--model", default=default.model, help="name of the base model")
    parser.add_argument(
        "--lora", action="append", default=[], help="name of an adapter; may be repeated"
    )
    parser.add_argument("--profile", choices=sorted(PROFILES), default=default.profile.name)
    parser.add_argument("--block-size", type=_positive, help="tokens per KV block")
    parser.add_argument("--kv-tokens", type=_positive, help="tokens that the KV cache holds")
    parser.add_argument("--max-num-seqs", type=_positive, help="requests running at a time")
    parser.add_argument("--max-model-len", type=_positive, help="prompt and output, in tokens")
    parser.add_argument("--max-loras", type=_positive, help="adapters resident at a time")
    parser.add_argument(
        "--time-factor", type=_factor, default=default.time_factor, help="2 is half as fast"
    )
    parser.add_argument(
        "--kv-events-ports",
        type=_ports,
        default=(),
        help="of ZeroMQ, one an engine",
    )
    parser.add_argument(
        "--kv-replay-ports", type=_ports, default=(), help="where they are repeated, one an engine"
    )
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument(
        "--endpoint-header", action=argparse.BooleanOptionalAction, default=default.endpoint_header
    )
    options = parser.parse_args(arguments)

    engines = options.ports or (options.port,)
    if options.kv_events_ports and len(options.kv_events_ports) != len(engines):
        parser.error("argument --kv-events-ports: there must be one for each engine")
    if options.kv_replay_ports and len(options.kv_replay_ports) != len(options.kv_events_ports):
        parser.error("argument --kv-replay-ports: there must be one for each of --kv-events-ports")
    loras = tuple(options.lora)
    if len({options.model, *loras}) != len(loras) + 1:
        parser.error("argument --lora: names of the model and its adapters must differ")
    overrides = {
        "block_size": options.block_size,
        "kv_tokens": options.kv_tokens,
        "max_sequences": options.max_num_seqs,
        "max_model_len": options.max_model_len,
        "max_loras": options.max_loras,
    }
    given = {name: value for name, value in overrides.items() if value is not None}
    profile = msgspec.structs.replace(PROFILES[options.profile], **given)
    if not profile.total_blocks:
        parser.error("argument --kv-tokens: less than one block")
    return SimulatorSettings(
        host=options.host,
        ports=engines,
        kv_events_ports=options.kv_events_ports,
        kv_replay_ports=options.kv_replay_ports,
        model=options.model,
        loras=loras,
        profile=profile,
        time_factor=options.time_factor,
        seed=options.seed & (2**64 - 1),
        endpoint_header=options.endpoint_header,
    )


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is no port")
    return port


def _ports(text: str) -> tuple[int, ...]:
    ports = tuple(_port(part) for part in text.split(","))
    fixed = [port for port in ports if port]
    if len(set(fixed)) != len(fixed):
        raise argparse.ArgumentTypeError(f"{text} names a port twice")
    return ports


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _factor(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
