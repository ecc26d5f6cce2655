"""What Envoy says by itself, in the error form of the rest: OpenAI's JSON.

The edge's refusals pass unchanged; these are for when Envoy reaches no edge or no model server.
"""

import json
from typing import Any

import betterproto2
from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel import v3 as cel
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google.protobuf import Any as AnyMessage

NO_EDGE = "the endpoint picker (ext-proc) is not reachable"
NO_MODEL_SERVER = "no model server of the pool could be reached"

_UPSTREAM_FLAGS = ["UH", "UF", "UC", "UO", "UR", "UT", "URX", "LR"]
"""No healthy host, connection failed or ended, overflow, reset, timeout, retries used up."""


def error_replies() -> hcm.LocalReplyConfig:
    no_edge = cel.ExpressionFilter(expression="response.code_details.startsWith('ext_proc_error')")
    extension = accesslog.ExtensionFilter(
        **_named("envoy.access_loggers.extension_filters.cel", no_edge)
    )
    upstream = accesslog.ResponseFlagFilter(flags=_UPSTREAM_FLAGS)
    return hcm.LocalReplyConfig(
        mappers=[
            _reply(accesslog.AccessLogFilter(extension_filter=extension), NO_EDGE, "ext-proc"),
            _reply(
                accesslog.AccessLogFilter(response_flag_filter=upstream),
                NO_MODEL_SERVER,
                "endpoint-unreachable",
            ),
        ]
    )


def _reply(when: accesslog.AccessLogFilter, message: str, code: str) -> hcm.ResponseMapper:
    error = {"message": message, "type": "server_error", "param": None, "code": code}
    body = core.SubstitutionFormatString(
        text_format_source=core.DataSource(inline_string=json.dumps({"error": error}) + "\n"),
        content_type="application/json",
    )
    return hcm.ResponseMapper(filter=when, body_format_override=body)


def _named(name: str, config: betterproto2.Message) -> dict[str, Any]:
    return {"name": name, "typed_config": AnyMessage.pack(config)}
