"""`pointsman envoy-config`: Envoy's configuration, for compose or for an Envoy of your own."""

import argparse

from pointsman_cli.commands.gateway_arguments import add_gateway_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compose", action="store_true", help="the file deploy/envoy/envoy.yaml of this repository"
    )
    parser.add_argument("--listen", default="0.0.0.0:8080", help="(%(default)s)")
    parser.add_argument("--admin", default="127.0.0.1:9901", help="(%(default)s)")
    parser.add_argument(
        "--edge",
        action="append",
        metavar="ADDRESS",
        help="host:port or unix:///path of an edge; may be repeated (ext-proc:9002)",
    )
    parser.add_argument(
        "--endpoints",
        default="/var/lib/pointsman/envoy/endpoints.json",
        help="file that the datalayer writes, its envoy_eds_path (%(default)s)",
    )
    add_gateway_arguments(parser)


def run(options: argparse.Namespace) -> int:
    # Envoy's messages take a second to import; `--help` need not wait for them.
    from pointsman_cli.core.envoy_config import EnvoyPlan, render_envoy_config  # noqa: PLC0415

    plan = EnvoyPlan(
        listen_address=options.listen,
        admin_address=options.admin,
        edge_addresses=tuple(options.edge or ["ext-proc:9002"]),
        edge_by_dns=not options.edge or not any("unix:" in edge for edge in options.edge),
        endpoints_path=options.endpoints,
        response_mode=options.response_mode,
        completion_signal=options.completion_signal,
    )
    if options.compose:
        print("# Made by `pointsman envoy-config --compose`; a test compares them.")
    print(render_envoy_config(plan), end="")
    return 0
