"""The composition root: reads the command line, runs the servers until a signal."""

import asyncio
import signal
import sys
from itertools import zip_longest

import uvloop
import zmq

from pointsman_simulator.adapters.model_server import ModelServer
from pointsman_simulator.settings import SimulatorSettings, parse_arguments


def main() -> None:
    """Run from the command line; exits with 1 if a port cannot be had."""
    settings = parse_arguments()
    try:
        uvloop.run(run(settings))
    except (OSError, zmq.ZMQError) as error:
        sys.exit(f"cannot listen on {settings.host}: {error}")


async def run(settings: SimulatorSettings) -> None:
    """Serve until SIGTERM or SIGINT, then stop at once."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    servers = [
        ModelServer(settings, port, kv_events_port=events or 0, kv_replay_port=replay or 0)
        for port, events, replay in zip_longest(
            settings.ports, settings.kv_events_ports, settings.kv_replay_ports
        )
    ]
    try:
        addresses = [await server.start() for server in servers]
        names = ", ".join((settings.model, *settings.loras))
        where = " ".join(addresses)
        sys.stdout.write(f"ready: {names} ({settings.profile.name}) on {where}\n")
        sys.stdout.flush()
        await stopped.wait()
    finally:
        for server in servers:
            await server.stop()
