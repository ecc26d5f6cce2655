"""Everything the router can be told. Later wins: default, YAML, ROUTER_*."""

from typing import Annotated, Any, Literal

import msgspec

from pointsman_common.rpc_address import RpcTransport
from pointsman_common.settings_loader import PositiveInt, PositiveSeconds, Seconds

DEFAULT_FORWARDED_HEADERS = (
    "test-epp-endpoint-selection",
    "x-session-token",
    "x-session-id",
    "epp-profile",
    "x-llm-d-slo-ttft-ms",
    "x-slo-ttft-ms",
    "x-llm-d-slo-tpot-ms",
    "x-slo-tpot-ms",
)


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    listen_address: str = "0.0.0.0:9101"
    """Where the hook is served: `host:port` or `unix:///path`, or several with commas."""

    admin_address: str = "0.0.0.0:9191"
    """Health, readiness, metrics and settings over HTTP."""

    rpc_transport: RpcTransport = "wire"
    """What carries the calls from and to other services: `wire`, our own HTTP/2 on asyncio, or
    `grpcio`. They understand each other."""

    bus_url: str = "nats://nats:4222"
    datalayer_url: str = "grpc://datalayer:9104"
    """Asked for the pools at the start, and whenever the bus is silent."""

    log_level: Literal["debug", "info", "warning"] = "info"
    log_format: Literal["text", "json"] = "text"

    drain_s: Seconds = 30.0
    """Longest wait for open calls after SIGTERM."""

    pool_poll_s: PositiveSeconds = 1.0
    """A pool that the bus has not told of for so long is asked of the datalayer."""

    endpoint_picker_config_path: str = ""
    """An EndpointPickerConfig, of which the router takes the parsers, for pools that publish none.
    Empty: the openai, anthropic, vllmhttp and passthrough parsers."""

    max_prefix_blocks: Annotated[int, msgspec.Meta(ge=0, le=16_384)] = 2048
    """Most prompt blocks that are fingerprinted; with 64 tokens to a block 131,072 tokens."""

    forwarded_headers: tuple[str, ...] = DEFAULT_FORWARDED_HEADERS
    """Request headers that are handed to the plugins of later layers, in lower case."""

    rules_file: str = ""
    """Rules for all pools, in the form of a RoutePolicy's `spec`; read again when it changes. They
    come before those of the pools. Empty: none."""

    rules_reload_s: PositiveSeconds = 1.0
    """How often `rules_file` is looked at."""

    rules: tuple[dict[str, Any], ...] = ()
    """Rules for all pools, as in a RoutePolicy's `spec.rules`; they come before `rules_file`."""

    rule_types: dict[str, str] = {}
    """Types of rules in Python that no installed package names: type to `module:object`."""

    callout_hosts: tuple[str, ...] = ("*",)
    """Hosts that rules may ask, with `*` for anything."""

    callout_secret: dict[str, str] = {}
    """Values that the headers of callouts may name as `secret:<name>`. Never shown."""

    callout_budget_s: PositiveSeconds = 1.5
    """Longest time that the rules of one request may ask others, all together. Keep it under the
    edge's deadline for the router."""

    callout_circuit_failures: PositiveInt = 5
    """Consecutive failures after which a rule's service is left alone."""

    callout_circuit_open_s: PositiveSeconds = 5.0
    """For how long it is, before one request may try again."""

    learn_token_ratio: bool = True
    """Correct the estimate of a model's prompt tokens by what its engines report."""

    tokenizers: dict[str, str] = {}
    """Tokenizers in Hugging Face's format, for exact counts and fingerprints of completions and
    embeddings: name of a target model (adapters too) to the path of its `tokenizer.json`."""

    tokenizer_max_bytes: PositiveInt = 32_768
    """Prompts that are longer, together, stay an estimate; 0.4 µs of CPU for a byte."""

    tokenizer_timeout_s: PositiveSeconds = 0.05
    """Longest that a request waits for its tokens, before it goes on with the estimate."""

    tokenizer_threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2

    read_usage: bool = True
    """Ask the edge for the token usage in answers, which it reports with the request's end."""
